/*
 * The start floor: the least kernel work of a default `lrun run --rm IMAGE true`, and nothing else.
 *
 *     floor LOWER DATA|- UPPER WORK MOUNTPOINT
 *
 * User, mount, pid, uts, ipc, net and cgroup namespaces with an id range mapped by newuidmap and newgidmap side by side,
 * an overlay root, proc, sysfs, cgroup2, /dev with six bound nodes, devpts, shm, mqueue, the same masks and read-only
 * paths mounted one by one, pivot_root, the bounding set, a seccomp filter, exec of /bin/true, wait. No argument parsing,
 * no image, no store. Exits with the command's status, or 125 and the line at which a call failed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <pwd.h>
#include <signal.h>
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

static void fail(int line) {
	fprintf(stderr, "floor: line %d: %s\n", line, strerror(errno));
	_exit(125);
}
#define CHECK(call) do { if ((call) < 0) fail(__LINE__); } while (0)

static int config(int fs, unsigned command, const char *key, const char *value, int aux) {
	return syscall(SYS_fsconfig, fs, command, key, value, aux);
}

static int mount_fs(const char *kind, const char *options[][2], unsigned attributes) {
	int fs = syscall(SYS_fsopen, kind, 1);
	if (fs < 0) return -1;
	for (; options && (*options)[0]; options++)
		if (config(fs, (*options)[1] ? 1 : 0, (*options)[0], (*options)[1], 0) < 0) return -1;
	if (config(fs, 6, NULL, NULL, 0) < 0) return -1;
	int mount = syscall(SYS_fsmount, fs, 1, attributes);
	close(fs);
	return mount;
}

static void attach(int mount, const char *target) {
	CHECK(syscall(SYS_move_mount, mount, "", AT_FDCWD, target, 4));
	close(mount);
}

static void layer(int fs, const char *key, const char *path) {
	int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	CHECK(fd);
	CHECK(config(fs, 5, key, NULL, fd));
	close(fd);
}

static void bind_at(const char *source, const char *target) {
	int tree = syscall(SYS_open_tree, AT_FDCWD, source, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	CHECK(tree);
	attach(tree, target);
}

static void container(char **argv) {
	char path[4096];
	CHECK(setresgid(0, 0, 0));
	CHECK(setresuid(0, 0, 0));
	CHECK(unshare(CLONE_NEWCGROUP));
	CHECK(mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL));
	int overlay = syscall(SYS_fsopen, "overlay", 1);
	CHECK(overlay);
	CHECK(config(overlay, 0, "userxattr", NULL, 0));
	layer(overlay, "lowerdir+", argv[1]);
	if (strcmp(argv[2], "-")) layer(overlay, "datadir+", argv[2]);
	layer(overlay, "upperdir", argv[3]);
	layer(overlay, "workdir", argv[4]);
	CHECK(config(overlay, 0, "volatile", NULL, 0));
	CHECK(config(overlay, 6, NULL, NULL, 0));
	int root = syscall(SYS_fsmount, overlay, 1, 0);
	CHECK(root);
	attach(root, argv[5]);
	CHECK(chdir(argv[5]));

	unsigned plain = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
	const char *dev[][2] = {{"mode", "755"}, {"size", "65536k"}, {NULL, NULL}};
	const char *pts[][2] = {{"newinstance", NULL}, {"ptmxmode", "0666"}, {"mode", "0620"}, {"gid", "5"}, {NULL, NULL}};
	const char *shm[][2] = {{"mode", "1777"}, {"size", "65536k"}, {NULL, NULL}};
	const char *empty[][2] = {{"size", "0"}, {"mode", "555"}, {NULL, NULL}};
	attach(mount_fs("proc", NULL, plain), "proc");
	attach(mount_fs("sysfs", NULL, plain | MOUNT_ATTR_RDONLY), "sys");
	int cgroup = mount_fs("cgroup2", NULL, plain | MOUNT_ATTR_RDONLY);
	if (cgroup >= 0) attach(cgroup, "sys/fs/cgroup");
	attach(mount_fs("tmpfs", dev, MOUNT_ATTR_NOSUID), "dev");
	const char *nodes[] = {"null", "zero", "full", "random", "urandom", "tty"};
	for (int i = 0; i < 6; i++) {
		char target[64];
		snprintf(path, sizeof path, "/dev/%s", nodes[i]);
		snprintf(target, sizeof target, "dev/%s", nodes[i]);
		close(open(target, O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
		bind_at(path, target);
	}
	CHECK(mkdir("dev/pts", 0755));
	CHECK(mkdir("dev/shm", 0755));
	CHECK(mkdir("dev/mqueue", 0755));
	attach(mount_fs("devpts", pts, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC), "dev/pts");
	attach(mount_fs("tmpfs", shm, plain), "dev/shm");
	attach(mount_fs("mqueue", NULL, plain), "dev/mqueue");

	const char *read_only[] = {"proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"};
	for (int i = 0; i < 5; i++) {
		int tree = syscall(SYS_open_tree, AT_FDCWD, read_only[i], OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
		if (tree < 0) continue;
		struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};
		CHECK(syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof attr));
		attach(tree, read_only[i]);
	}
	const char *masked[] = {"proc/acpi", "proc/asound", "proc/interrupts", "proc/kcore", "proc/keys", "proc/latency_stats",
		"proc/sched_debug", "proc/scsi", "proc/timer_list", "proc/timer_stats", "sys/dev/block",
		"sys/devices/virtual/powercap", "sys/firmware", "sys/fs/selinux", "sys/kernel/debug", "sys/kernel/tracing"};
	for (int i = 0; i < 16; i++) {
		struct stat st;
		if (stat(masked[i], &st) < 0) continue;
		if (S_ISDIR(st.st_mode)) attach(mount_fs("tmpfs", empty, plain | MOUNT_ATTR_RDONLY), masked[i]);
		else bind_at("/dev/null", masked[i]);
	}
	CHECK(syscall(SYS_pivot_root, ".", "."));
	CHECK(umount2(".", MNT_DETACH));
	CHECK(chdir("/"));
	CHECK(sethostname("floor", 5));
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	CHECK(ioctl(s, SIOCSIFFLAGS, &lo));
	for (int cap = 0; cap <= 40; cap++)
		if (!(0xa80425fbULL >> cap & 1)) CHECK(prctl(PR_CAPBSET_DROP, cap, 0, 0, 0));
	struct sock_filter allow[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
	struct sock_fprog filter = {1, allow};
	CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter));
	char *command[] = {"true", NULL}, *environment[] = {"PATH=/bin", NULL};
	execve("/bin/true", command, environment);
	fail(__LINE__);
}

static pid_t map(const char *helper, pid_t target, unsigned own, const char *ranges, const char *name) {
	unsigned first = 0, count = 0;
	char line[512], pid[16], id[16], begin[16], length[16];
	FILE *file = fopen(ranges, "re");
	while (file && fgets(line, sizeof line, file))
		if (!strncmp(line, name, strlen(name)) && line[strlen(name)] == ':') sscanf(line + strlen(name) + 1, "%u:%u", &first, &count);
	if (file) fclose(file);
	snprintf(pid, sizeof pid, "%d", target);
	snprintf(id, sizeof id, "%u", own);
	snprintf(begin, sizeof begin, "%u", first);
	snprintf(length, sizeof length, "%u", count);
	pid_t child = vfork();
	if (!child) {
		execl(helper, helper, pid, "0", id, "1", "1", begin, length, NULL);
		_exit(127);
	}
	return child;
}

int main(int argc, char **argv) {
	if (argc != 6) return 125;
	int release[2], status;
	CHECK(pipe2(release, O_CLOEXEC));
	struct clone_args args = {.flags = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET,
		.exit_signal = SIGCHLD};
	pid_t child = syscall(SYS_clone3, &args, sizeof args);
	CHECK(child);
	if (!child) {
		char byte;
		if (read(release[0], &byte, 1) != 1) _exit(125);
		container(argv);
	}
	struct passwd *user = getpwuid(getuid());
	pid_t users = map("/usr/bin/newuidmap", child, getuid(), "/etc/subuid", user->pw_name);
	pid_t groups = map("/usr/bin/newgidmap", child, getgid(), "/etc/subgid", user->pw_name);
	CHECK(waitpid(users, NULL, 0));
	CHECK(waitpid(groups, NULL, 0));
	CHECK(write(release[1], "x", 1));
	CHECK(waitpid(child, &status, 0));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 125;
}
