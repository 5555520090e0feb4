/* Runs a command some times and prints, for each run, its nanoseconds and its peak resident memory in KiB.
 *
 *   stopwatch COUNT WORKERS COMMAND...
 *
 * With WORKERS above 1 that many processes share the runs, started at once, and a last line tells the nanoseconds of all
 * together. A small static program, so that what stands between the clock and the command is one vfork: an interpreter
 * that starts a child takes as long for it as a container takes. What the command prints is thrown away.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static long long now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static int run(char **words, posix_spawn_file_actions_t *actions)
{
    struct rusage usage;
    pid_t process;
    int status;
    long long start = now();
    errno = posix_spawnp(&process, words[0], actions, NULL, words, environ);
    if (errno != 0) {
        fprintf(stderr, "%s: %s\n", words[0], strerror(errno));
        return 127;
    }
    while (wait4(process, &status, 0, &usage) < 0 && errno == EINTR)
        ;
    long long taken = now() - start;
    char line[64];
    int length = snprintf(line, sizeof(line), "%lld %ld\n", taken, usage.ru_maxrss);
    if (write(STDOUT_FILENO, line, (size_t)length) != length)
        return 125;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int main(int count, char **words)
{
    if (count < 4) {
        fputs("usage: stopwatch COUNT WORKERS COMMAND...\n", stderr);
        return 2;
    }
    int runs = atoi(words[1]), workers = atoi(words[2]), failed = 0;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    if (workers <= 1) {
        for (int i = 0; i < runs && failed == 0; i++)
            failed = run(words + 3, &actions);
        return failed;
    }
    long long start = now();
    for (int worker = 0; worker < workers; worker++) {
        if (fork() == 0) {
            for (int i = worker; i < runs && failed == 0; i += workers)
                failed = run(words + 3, &actions);
            _exit(failed);
        }
    }
    int status;
    while (wait(&status) > 0)
        if (status != 0)
            failed = WIFEXITED(status) ? WEXITSTATUS(status) : 125;
    printf("%lld 0\n", now() - start);
    return failed;
}
