/* The program in the containers of start.rs: one word of it at a time, statically linked, needs nothing around it. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int show(const char *path)
{
    char buffer[65536];
    ssize_t count;
    int file = open(path, O_RDONLY);
    if (file < 0) {
        perror(path);
        return 1;
    }
    while ((count = read(file, buffer, sizeof buffer)) > 0)
        if (write(1, buffer, (size_t)count) != count)
            return 1;
    return count < 0;
}

int main(int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : "", *operand = argc > 2 ? argv[2] : "";
    if (!strcmp(word, "show"))
        return show(operand);
    if (!strcmp(word, "exit"))
        return atoi(operand);
    if (!strcmp(word, "kill")) {
        /* Only a signal from outside ends process 1: this one runs under an init. */
        raise(atoi(operand));
        return 0;
    }
    if (!strcmp(word, "write"))
        return close(open(operand, O_WRONLY | O_CREAT | O_TRUNC, 0644)) != 0;
    if (!strcmp(word, "stay")) {
        /* As gosu and su-exec do: from here on the kernel has forgotten the death signal. */
        uid_t uid = (uid_t)atoi(operand);
        if (uid != 0 && setresuid(uid, uid, uid) != 0)
            return 1;
        puts("ready");
        fflush(stdout);
        for (;;)
            pause();
    }
    if (!strcmp(word, "session-key")) {
        /* KEYCTL_SEARCH in KEY_SPEC_SESSION_KEYRING. */
        long key = syscall(SYS_keyctl, 10, -3, "user", operand, 0);
        puts(key > 0 ? "found" : "none");
        return 0;
    }
    if (!strcmp(word, "with-session-key")) {
        /* KEYCTL_JOIN_SESSION_KEYRING, then a key in it, then the rest of the words. */
        if (syscall(SYS_keyctl, 1, NULL) < 0 || syscall(SYS_add_key, "user", operand, "x", 1, -3) < 0)
            return 77;
        execv(argv[3], argv + 3);
        return 1;
    }
    return 64;
}
