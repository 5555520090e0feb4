/* What can be had of a process by its files, and by its descriptors. */
#include "attacker.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static uint64_t mounts[4096];
static size_t mount_count;

void read_own_mounts(void)
{
    static char line[65536];
    FILE *file = fopen("/proc/self/mountinfo", "re");
    while (file && mount_count < sizeof mounts / sizeof *mounts && fgets(line, sizeof line, file))
        mounts[mount_count++] = strtoull(line, NULL, 10);
    if (file)
        fclose(file);
}

/* Whether a descriptor leads to a file or folder that none of the container's mounts shows. */
static int is_foreign(int fd)
{
    struct statx found;
    if (syscall(SYS_statx, fd, "", AT_EMPTY_PATH, STATX_TYPE | STATX_MNT_ID, &found) != 0)
        return 0;
    if (!(found.stx_mask & STATX_MNT_ID) || !(S_ISREG(found.stx_mode) || S_ISDIR(found.stx_mode)))
        return 0;
    for (size_t index = 0; index < mount_count; index++)
        if (mounts[index] == found.stx_mnt_id)
            return 0;
    return 1;
}

static int is_runner(const char *name)
{
    static const char *const PROGRAMS[] = { "lrun", "pasta", "passt", "slirp4netns", "crun", "runc", "bwrap", "nsenter" };
    for (size_t index = 0; index < sizeof PROGRAMS / sizeof *PROGRAMS; index++)
        if (!strncmp(name, PROGRAMS[index], strlen(PROGRAMS[index])))
            return 1;
    return 0;
}

enum whose whose(int folder)
{
    char path[4096];
    ssize_t length = readlinkat(folder, "exe", path, sizeof path - 1);
    if (length < 0)
        return errno == EACCES || errno == EPERM ? HIDDEN : GONE;
    path[length] = 0;
    const char *name = strrchr(path, '/');
    name = name ? name + 1 : path;
    /* A runner that executes a copy of itself in memory. */
    if (!strncmp(name, "memfd:", 6))
        name += 6;
    return is_runner(name) ? THEIRS : COMMANDS;
}

int is_named_as_runner(int folder)
{
    char name[32] = "";
    int file = openat(folder, "comm", O_RDONLY | O_CLOEXEC);
    if (file >= 0) {
        if (read(file, name, sizeof name - 1) < 0)
            name[0] = 0;
        close(file);
    }
    return is_runner(name);
}

static void write_canary(int root, int pid)
{
    if (!canary)
        return;
    int file = openat(root, canary + 1, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (file < 0)
        return;
    if (write(file, "dead\n", 5) == 5)
        success(CANARY, pid);
    close(file);
}

/* Whether a file below /proc/PID opens, which it does for those alone who may look into the process. */
static int opens(int folder, const char *name, int flags)
{
    char byte;
    int file = openat(folder, name, flags | O_CLOEXEC);
    if (file < 0)
        return 0;
    /* Of a process that has ended they are empty. */
    int is_open = flags != O_RDONLY || read(file, &byte, 1) == 1;
    close(file);
    return is_open;
}

void try_files(int folder, int pid)
{
    uint8_t found[KINDS] = { 0 };
    enum whose before = whose(folder);
    if (before == COMMANDS || before == GONE)
        return;
    int root = openat(folder, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root >= 0) {
        found[ROOT] = (uint8_t)is_foreign(root);
        write_canary(root, pid);
        close(root);
    }
    int cwd = openat(folder, "cwd", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (cwd >= 0) {
        found[CWD] = (uint8_t)is_foreign(cwd);
        close(cwd);
    }
    char text[64];
    found[EXE] = (uint8_t)opens(folder, "exe", O_RDONLY);
    found[MEM] = (uint8_t)opens(folder, "mem", O_RDWR);
    found[MAPS] = (uint8_t)opens(folder, "maps", O_RDONLY);
    found[ENVIRON] = (uint8_t)opens(folder, "environ", O_RDONLY);
    found[NS] = readlinkat(folder, "ns/mnt", text, sizeof text) > 0;
    int fds = openat(folder, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = fds >= 0 ? fdopendir(fds) : NULL;
    for (struct dirent *entry; list && (entry = readdir(list));) {
        /* The streams are the container's in any case. */
        int file = atoi(entry->d_name) < 3 ? -1 : openat(fds, entry->d_name, O_PATH | O_CLOEXEC);
        if (file < 0)
            continue;
        found[FD] |= (uint8_t)is_foreign(file);
        close(file);
    }
    if (list)
        closedir(list);
    /* What was found may be that of the command which it has become meanwhile. */
    enum whose after = whose(folder);
    if (after == THEIRS || after == HIDDEN || (before == THEIRS && after == GONE))
        for (int kind = 0; kind < KINDS; kind++)
            if (found[kind])
                success((enum kind)kind, pid);
}

int has_secret(int folder, const char *path)
{
    static char line[65536];
    int file = openat(folder, path, O_RDONLY | O_CLOEXEC);
    ssize_t length = file < 0 ? -1 : read(file, line, sizeof line);
    if (file >= 0)
        close(file);
    return length > 0 && memmem(line, (size_t)length, SECRET, strlen(SECRET)) != NULL;
}

void try_descriptors(int folder, int pid)
{
    int process = (int)syscall(SYS_pidfd_open, pid, 0);
    if (process < 0)
        return;
    for (int number = 0; number < 16; number++) {
        int file = (int)syscall(SYS_pidfd_getfd, process, number, 0);
        if (file < 0) {
            if (errno == EBADF)
                continue;
            break;
        }
        enum whose now = whose(folder);
        if (now == THEIRS || now == HIDDEN)
            success(GETFD, pid);
        close(file);
    }
    close(process);
}

int is_unfiltered(int folder)
{
    char text[4096];
    int file = openat(folder, "status", O_RDONLY | O_CLOEXEC);
    ssize_t length = file < 0 ? -1 : read(file, text, sizeof text - 1);
    if (file >= 0)
        close(file);
    text[length > 0 ? length : 0] = 0;
    return strstr(text, "\nSeccomp:\t0") != NULL;
}
