/* Start floor: the kernel work of `lrun run --rm IMAGE true`, and nothing else.
 *
 *   floor [--single | --range FIRST:COUNT [--holder PID]] [--host-net] LOWER DATA|- FOLDER
 *   floor --ids FIRST:COUNT
 *
 * No store, no image, no command line worth the name, no checks of what an image could do, no message: what is left is
 * what the kernel costs. Static; exits with the status of /bin/true, 125 when a step fails. With --holder the user
 * namespace of that process is joined first, and the maps are written from within it; without, newuidmap and newgidmap
 * write them, side by side. --ids maps a new user namespace by that pair and does nothing else.
 *
 * A folder for the container is made in FOLDER, as lrun makes one, and removed when the status is known, by a process that
 * nobody waits for.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* As DEVICES, DEVICE_LINKS, MASKED and READ_ONLY of runner/src/plan.rs. */
static const char *const devices[] = {"null", "zero", "full", "random", "urandom", "tty"};
static const char *const links[][2] = {{"/proc/self/fd", "fd"},
                                       {"/proc/self/fd/0", "stdin"},
                                       {"/proc/self/fd/1", "stdout"},
                                       {"/proc/self/fd/2", "stderr"},
                                       {"pts/ptmx", "ptmx"}};
static const char *const masked[] = {"/proc/acpi",          "/proc/asound",
                                     "/proc/interrupts",    "/proc/kcore",
                                     "/proc/keys",          "/proc/latency_stats",
                                     "/proc/sched_debug",   "/proc/scsi",
                                     "/proc/timer_list",    "/proc/timer_stats",
                                     "/sys/dev/block",      "/sys/devices/virtual/powercap",
                                     "/sys/firmware",       "/sys/fs/selinux",
                                     "/sys/kernel/debug",   "/sys/kernel/tracing"};
static const char *const read_only[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};

/* Capabilities that stay, as those of containers do by default. */
static const int kept[] = {CAP_CHOWN,  CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID,           CAP_KILL,    CAP_SETGID,
                           CAP_SETUID, CAP_SETPCAP,      CAP_SETFCAP, CAP_NET_BIND_SERVICE, CAP_SYS_CHROOT};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define PLAIN (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)

static void check(int is_good, const char *what)
{
    if (is_good)
        return;
    fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
    _exit(125);
}

static int place(int root, const char *path)
{
    struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
    return (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
}

static void attach(int mount, int at, const char *what)
{
    check(move_mount(mount, "", at, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) == 0, what);
    close(mount);
}

/* Options are pairs of key and value, ended by NULL; a value of NULL makes a flag. */
static int filesystem(const char *kind, const char *const options[], unsigned attributes)
{
    int context = fsopen(kind, FSOPEN_CLOEXEC);
    if (context < 0)
        return -1;
    for (int i = 0; options != NULL && options[i] != NULL; i += 2)
        check(fsconfig(context, options[i + 1] ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG, options[i], options[i + 1],
                       0) == 0,
              options[i]);
    int mount = fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0
                    ? fsmount(context, FSMOUNT_CLOEXEC, attributes)
                    : -1;
    close(context);
    return mount;
}

static void add(int root, const char *kind, const char *const options[], const char *path, unsigned attributes)
{
    int at = place(root, path);
    if (at < 0) {
        check(mkdirat(root, path + 1, 0755) == 0, path);
        at = place(root, path);
    }
    int mount = filesystem(kind, options, attributes);
    if (mount < 0 && strcmp(kind, "cgroup2") == 0) {
        close(at);
        return;
    }
    if (mount < 0 && (strcmp(kind, "proc") == 0 || strcmp(kind, "sysfs") == 0))
        /* Sysfs with the host's network: the host's, bound. */
        mount = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
    check(at >= 0 && mount >= 0, path);
    attach(mount, at, path);
    close(at);
}

static void layer(int overlay, const char *key, const char *path)
{
    int folder = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    check(folder >= 0, path);
    if (fsconfig(overlay, FSCONFIG_SET_FD, key, NULL, folder) != 0)
        check(fsconfig(overlay, FSCONFIG_SET_STRING, strcmp(key, "lowerdir+") == 0 ? "lowerdir" : key, path, 0) == 0,
              key);
    close(folder);
}

static int overlay(char *const folders[])
{
    int context = fsopen("overlay", FSOPEN_CLOEXEC);
    check(context >= 0, "overlay");
    check(fsconfig(context, FSCONFIG_SET_FLAG, "userxattr", NULL, 0) == 0, "userxattr");
    layer(context, "lowerdir+", folders[0]);
    if (strcmp(folders[1], "-") != 0)
        layer(context, "datadir+", folders[1]);
    layer(context, "upperdir", folders[2]);
    layer(context, "workdir", folders[3]);
    check(fsconfig(context, FSCONFIG_SET_FLAG, "volatile", NULL, 0) == 0, "volatile");
    check(fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0, "make the overlay");
    int mount = fsmount(context, FSMOUNT_CLOEXEC, MOUNT_ATTR_NODEV);
    check(mount >= 0, "mount the overlay");
    close(context);
    int at = open(folders[4], O_PATH | O_DIRECTORY | O_CLOEXEC);
    check(at >= 0, folders[4]);
    attach(mount, at, "attach the overlay");
    close(at);
    /* The descriptor from before still means what lies below the mount. */
    int root = open(folders[4], O_PATH | O_DIRECTORY | O_CLOEXEC);
    check(root >= 0, folders[4]);
    return root;
}

/* Where they lie in the root: written below the overlay, before it is there. */
static void put(int upper, const char *folder, const char *path, const char *text)
{
    check(mkdirat(upper, folder, 0755) == 0 || errno == EEXIST, folder);
    int file = openat(upper, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    check(file >= 0 && write(file, text, strlen(text)) == (ssize_t)strlen(text), path);
    close(file);
}

static void put_all(const char *folder)
{
    int upper = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    check(upper >= 0, folder);
    put(upper, "etc", "etc/hosts", "127.0.0.1 localhost\n");
    put(upper, "etc", "etc/hostname", "floor\n");
    put(upper, "run", "run/.containerenv", "");
    close(upper);
}

static void bind_devices(int root)
{
    int dev = place(root, "/dev");
    for (size_t i = 0; i < COUNT(devices); i++) {
        char path[32];
        snprintf(path, sizeof(path), "/dev/%s", devices[i]);
        int node = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
        struct mount_attr attributes = {.attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, .propagation = MS_PRIVATE};
        check(node >= 0 && mount_setattr(node, "", AT_EMPTY_PATH, &attributes, sizeof(attributes)) == 0, path);
        close(openat(dev, devices[i], O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
        int at = place(root, path);
        attach(node, at, path);
        close(at);
    }
    for (size_t i = 0; i < COUNT(links); i++)
        check(symlinkat(links[i][0], dev, links[i][1]) == 0, links[i][1]);
    close(dev);
}

static void mask_all(int root, int null)
{
    for (size_t i = 0; i < COUNT(read_only); i++) {
        int at = place(root, read_only[i]);
        if (at < 0)
            continue;
        int tree = open_tree(at, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE);
        struct mount_attr attributes = {.attr_set = MOUNT_ATTR_RDONLY, .propagation = MS_PRIVATE};
        check(tree >= 0 && mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &attributes, sizeof(attributes)) == 0,
              read_only[i]);
        attach(tree, at, read_only[i]);
        close(at);
    }
    for (size_t i = 0; i < COUNT(masked); i++) {
        int at = place(root, masked[i]);
        if (at < 0)
            continue;
        struct stat stat;
        check(fstat(at, &stat) == 0, masked[i]);
        static const char *const empty[] = {"size", "0", "mode", "555", NULL};
        int cover = S_ISDIR(stat.st_mode) ? filesystem("tmpfs", empty, PLAIN | MOUNT_ATTR_RDONLY)
                                          : open_tree(null, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
        check(cover >= 0, masked[i]);
        attach(cover, at, masked[i]);
        close(at);
    }
}

static void loopback_up(void)
{
    int socket_ = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    check(socket_ >= 0 && ioctl(socket_, SIOCSIFFLAGS, &request) == 0, "lo");
    close(socket_);
}

static int is_kept(int capability)
{
    for (size_t i = 0; i < COUNT(kept); i++)
        if (kept[i] == capability)
            return 1;
    return 0;
}

static void give_up_power(void)
{
    for (int capability = 0; prctl(PR_CAPBSET_READ, capability) >= 0; capability++)
        if (!is_kept(capability))
            check(prctl(PR_CAPBSET_DROP, capability) == 0, "drop a capability");

    /* Small: it refuses three calls. That of lrun is longer, which is work of lrun's. */
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_kexec_load, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_init_module, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_bpf, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {.len = COUNT(program), .filter = program};
    check(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) == 0, "seccomp");

    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {0};
    for (size_t i = 0; i < COUNT(kept); i++) {
        data[kept[i] / 32].effective |= 1U << (kept[i] % 32);
        data[kept[i] / 32].permitted |= 1U << (kept[i] % 32);
    }
    check(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) == 0, "ambient set");
    check(syscall(SYS_capset, &header, data) == 0, "capset");
}

static void child(int released, int has_range, int has_host_net, char *const folders[])
{
    char byte;
    check(read(released, &byte, 1) == 1, "wait for the parent");
    check(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0, "die with the parent");
    if (has_range)
        check(setgroups(0, NULL) == 0, "setgroups");
    check(setresgid(0, 0, 0) == 0 && setresuid(0, 0, 0) == 0, "become root");
    check(prctl(PR_SET_DUMPABLE, 0) == 0, "not dumpable");
    umask(022);
    check(unshare(CLONE_NEWCGROUP) == 0, "cgroup namespace");
    check(mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) == 0, "propagation");

    int null = open("/dev/null", O_PATH | O_NOFOLLOW | O_CLOEXEC);
    put_all(folders[2]);
    int root = overlay(folders);
    setsid();
    static const char *const dev[] = {"mode", "755", "size", "65536k", NULL};
    static const char *const pts[] = {"newinstance", NULL, "ptmxmode", "0666", "mode", "0620", "gid", "5", NULL};
    /* A single id has no group 5. */
    static const char *const pts_single[] = {"newinstance", NULL, "ptmxmode", "0666", "mode", "0620", NULL};
    static const char *const shm[] = {"mode", "1777", "size", "65536k", NULL};
    add(root, "proc", NULL, "/proc", PLAIN);
    add(root, "sysfs", NULL, "/sys", PLAIN | MOUNT_ATTR_RDONLY);
    add(root, "cgroup2", NULL, "/sys/fs/cgroup", PLAIN | MOUNT_ATTR_RDONLY);
    add(root, "tmpfs", dev, "/dev", MOUNT_ATTR_NOSUID);
    bind_devices(root);
    add(root, "devpts", has_range ? pts : pts_single, "/dev/pts", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
    add(root, "tmpfs", shm, "/dev/shm", PLAIN);
    add(root, "mqueue", NULL, "/dev/mqueue", PLAIN);
    mask_all(root, null);

    check(fchdir(root) == 0 && syscall(SYS_pivot_root, ".", ".") == 0, "pivot_root");
    check(umount2(".", MNT_DETACH) == 0 && chdir("/") == 0, "leave the old root");
    check(sethostname("floor", 5) == 0, "host name");
    if (!has_host_net)
        loopback_up();
    give_up_power();
    close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
    char *const arguments[] = {"true", NULL}, *const environment[] = {"PATH=/usr/bin:/bin", NULL};
    execve("/bin/true", arguments, environment);
    check(0, "/bin/true");
}

static pid_t start_helper(const char *helper, pid_t target, unsigned own, const char *range)
{
    char id[16], outer[16], first[16], *count;
    snprintf(id, sizeof(id), "%d", target);
    snprintf(outer, sizeof(outer), "%u", own);
    snprintf(first, sizeof(first), "%lu", strtoul(range, &count, 10));
    check(*count == ':', "--range FIRST:COUNT");
    char *const arguments[] = {(char *)helper, id, "0", outer, "1", "1", first, count + 1, NULL};
    char *const environment[] = {NULL};
    pid_t process;
    errno = posix_spawn(&process, helper, NULL, NULL, arguments, environment);
    check(errno == 0, helper);
    return process;
}

static int status_of(pid_t process)
{
    int status;
    check(waitpid(process, &status, 0) == process, "wait");
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void put_map(pid_t target, const char *file, const char *text)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/%s", target, file);
    int map = open(path, O_WRONLY | O_CLOEXEC);
    check(map >= 0 && write(map, text, strlen(text)) == (ssize_t)strlen(text), path);
    close(map);
}

static int remove_one(const char *path, const struct stat *stat, int kind, struct FTW *walk)
{
    (void)stat, (void)kind, (void)walk;
    return remove(path);
}

/* The status is known by now, and lrun makes nobody wait for this either. */
static void clean(const char *folder)
{
    if (fork() != 0)
        return;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    setsid();
    for (int i = 0; i < 3; i++)
        dup2(null, i);
    /* Overlayfs leaves its own folders without any permission. */
    static const char *const closed[] = {"work/work", "work/work/incompat", "work/work/incompat/volatile"};
    for (size_t i = 0; i < COUNT(closed); i++) {
        char path[4096];
        snprintf(path, sizeof(path), "%s/%s", folder, closed[i]);
        chmod(path, 0700);
    }
    nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    _exit(0);
}

static void by_helpers(pid_t process, const char *range)
{
    pid_t users = start_helper("/usr/bin/newuidmap", process, getuid(), range);
    pid_t groups = start_helper("/usr/bin/newgidmap", process, getgid(), range);
    errno = 0;
    check((status_of(users) | status_of(groups)) == 0, "newuidmap and newgidmap");
}

static void by_writing(pid_t process, const char *range)
{
    char map[64], rest[48] = "";
    if (range == NULL) {
        put_map(process, "setgroups", "deny");
    } else {
        char *count;
        unsigned long first = strtoul(range, &count, 10);
        check(*count == ':', "--range FIRST:COUNT");
        snprintf(rest, sizeof(rest), "\n1 %lu %s\n", first, count + 1);
    }
    snprintf(map, sizeof(map), "0 %u 1%s", getgid(), rest);
    put_map(process, "gid_map", map);
    snprintf(map, sizeof(map), "0 %u 1%s", getuid(), rest);
    put_map(process, "uid_map", map);
}

static int only_ids(const char *range)
{
    struct clone_args arguments = {.flags = CLONE_NEWUSER, .exit_signal = SIGCHLD};
    pid_t process = (pid_t)syscall(SYS_clone3, &arguments, sizeof(arguments));
    check(process >= 0, "clone3");
    if (process == 0)
        for (;;)
            pause();
    by_helpers(process, range);
    kill(process, SIGKILL);
    status_of(process);
    return 0;
}

static void join_holder(const char *pid)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%s/ns/user", pid);
    int namespace = open(path, O_RDONLY | O_CLOEXEC);
    check(namespace >= 0 && setns(namespace, CLONE_NEWUSER) == 0, path);
    close(namespace);
}

int main(int count, char **words)
{
    const char *range = NULL, *holder = NULL;
    int has_host_net = 0, at = 1;
    for (; at < count && strncmp(words[at], "--", 2) == 0; at++) {
        if (strcmp(words[at], "--host-net") == 0)
            has_host_net = 1;
        else if (strcmp(words[at], "--single") == 0)
            range = NULL;
        else if (strcmp(words[at], "--range") == 0 && at + 1 < count)
            range = words[++at];
        else if (strcmp(words[at], "--holder") == 0 && at + 1 < count)
            holder = words[++at];
        else if (strcmp(words[at], "--ids") == 0 && at + 2 == count)
            return only_ids(words[at + 1]);
        else
            break;
    }
    if (count - at != 3 || (holder != NULL && range == NULL)) {
        fputs("usage: floor [--single | --range FIRST:COUNT [--holder PID]] [--host-net] LOWER DATA|- FOLDER\n"
              "       floor --ids FIRST:COUNT\n",
              stderr);
        return 125;
    }
    char folder[2048], upper[2064], work[2064];
    snprintf(folder, sizeof(folder), "%s/%d", words[at + 2], getpid());
    snprintf(upper, sizeof(upper), "%s/upper", folder);
    snprintf(work, sizeof(work), "%s/work", folder);
    char *const folders[] = {words[at], words[at + 1], upper, work, folder};
    check(mkdir(folder, 0755) == 0 && mkdir(upper, 0755) == 0 && mkdir(work, 0755) == 0, folder);
    if (holder != NULL)
        join_holder(holder);

    int released[2];
    check(pipe2(released, O_CLOEXEC) == 0, "pipe");
    int pidfd = -1;
    struct clone_args arguments = {
        .flags = CLONE_PIDFD | CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS |
                 (has_host_net ? 0 : CLONE_NEWNET),
        .pidfd = (unsigned long)&pidfd,
        .exit_signal = SIGCHLD,
    };
    pid_t process = (pid_t)syscall(SYS_clone3, &arguments, sizeof(arguments));
    check(process >= 0, "clone3");
    if (process == 0)
        child(released[0], range != NULL, has_host_net, folders);

    if (range != NULL && holder == NULL)
        by_helpers(process, range);
    else
        by_writing(process, range);
    check(write(released[1], "x", 1) == 1, "release the child");
    int status = status_of(process);
    clean(folder);
    return status;
}
