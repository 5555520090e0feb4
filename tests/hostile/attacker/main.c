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
#include "attacker.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

const char *canary;
int tries_parameter, tries_arguments;
volatile sig_atomic_t over;

static void stop(int signal)
{
    (void)signal;
    over = 1;
}

double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
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

/* Processes each of which makes the next and ends, for most of a second: a list of processes always comes too late. The last one stays.
 * Returns in it alone. */
static void chain(void)
{
    if (fork() > 0) {
        usleep(200000);
        _exit(0);
    }
    setsid();
    signal(SIGCHLD, SIG_IGN);
    int null = open("/dev/null", O_RDWR);
    for (int fd = 0; fd < 3; fd++)
        dup2(null, fd);
    for (double end = now() + 0.8; now() < end;)
        if (fork() > 0)
            _exit(0);
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
    if (!strcmp(word, "chain"))
        chain();
    if (!strcmp(word, "leave") && (left = leave(argc > 3 ? argv[3] : "")) >= 0)
        return left;
    if (!strcmp(word, "stay") || !strcmp(word, "leave") || !strcmp(word, "chain")) {
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
