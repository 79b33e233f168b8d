/*
 * The walls of a room: namespaces, and the tree its programs see as /.
 * Runs in the room's init before anything else does.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vm.h"

#define VM_NAMESPACES                                               \
	(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | \
	    CLONE_NEWUTS)

/* Programs and libraries, shown read-only where the host has them. */
static const char *const host_dirs[] = {
    "usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"};

/* Parts of /etc without which programs of the host do not run. */
static const char *const host_etc[] = {"alternatives", "ld.so.cache",
    "ld.so.conf", "ld.so.conf.d", "localtime", "mime.types", "nsswitch.conf",
    "perl", "python3", "python3.11", "ssl", "terminfo", "magic", "services",
    "protocols"};

static const char *const host_devices[] = {
    "null", "zero", "full", "random", "urandom", "tty"};

static int
write_file(const char *path, const char *text)
{
	ssize_t n;
	int fd, error = 0;

	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd == -1)
		return -errno;
	n = write(fd, text, strlen(text));
	if (n != (ssize_t)strlen(text))
		error = n == -1 ? -errno : -EIO;
	(void)close(fd);
	return error;
}

/*
 * Leave the host's namespaces.  The pid namespace begins with the next child.
 */
int
vm_unshare(const struct vm_spec *spec)
{
	char map[64];
	uid_t uid = geteuid();
	gid_t gid = getegid();
	int error;

	if (unshare(VM_NAMESPACES | (spec->userns ? CLONE_NEWUSER : 0)) == -1)
		return -errno;
	if (!spec->userns)
		return 0;
	(void)write_file("/proc/self/setgroups", "deny");
	(void)snprintf(map, sizeof(map), "0 %u 1", (unsigned)uid);
	error = write_file("/proc/self/uid_map", map);
	if (error != 0)
		return error;
	(void)snprintf(map, sizeof(map), "0 %u 1", (unsigned)gid);
	return write_file("/proc/self/gid_map", map);
}

/*
 * Keep our mounts to ourselves.  In a chroot / is no mount point, so that
 * there is nothing to be told so, nor to be pivoted: from the true root of our
 * own namespace all is made private, then / is bound onto itself.
 */
static int
make_private(void)
{
	int self = -1, root = -1, tree = -1, error = 0;

	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0)
		return 0;
	if (errno != EINVAL)
		return -errno;
	if ((root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC)) == -1 ||
	    (self = (int)syscall(SYS_pidfd_open, getpid(), 0)) == -1 ||
	    setns(self, CLONE_NEWNS) == -1 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == -1 ||
	    (tree = open_tree(root, "",
		 AT_EMPTY_PATH | AT_RECURSIVE | OPEN_TREE_CLONE |
		     OPEN_TREE_CLOEXEC)) == -1 ||
	    move_mount(tree, "", root, "",
		MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) == -1 ||
	    fchdir(tree) == -1 || chroot(".") == -1)
		error = -errno;
	if (root != -1)
		(void)close(root);
	if (self != -1)
		(void)close(self);
	if (tree != -1)
		(void)close(tree);
	return error;
}

/* Whether namespaces can be had, tried in a child: 0 or -errno. */
int
vm_probe(bool userns)
{
	struct vm_spec spec = {.userns = userns};
	pid_t pid;
	int status, error;

	pid = fork();
	if (pid == -1)
		return -errno;
	if (pid == 0) {
		error = vm_unshare(&spec);
		if (error == 0)
			error = make_private();
		_exit(-error & 0xff);
	}
	while (waitpid(pid, &status, 0) == -1) {
		if (errno != EINTR)
			return -errno;
	}
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -EPERM;
}

static int
make_dirs(const char *path, mode_t mode)
{
	char copy[PATH_MAX];
	char *p;

	if (strlcpy(copy, path, sizeof(copy)) >= sizeof(copy))
		return -ENAMETOOLONG;
	for (p = copy + 1; (p = strchr(p, '/')) != NULL; *p++ = '/') {
		*p = '\0';
		if (mkdir(copy, 0755) == -1 && errno != EEXIST)
			return -errno;
	}
	if (mkdir(copy, mode) == -1 && errno != EEXIST)
		return -errno;
	return 0;
}

/* Show src at dst, which is made when missing. */
static int
bind_path(const char *src, const char *dst, bool readonly)
{
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};
	struct stat st;
	int fd, error;

	if (stat(src, &st) == -1)
		return -errno;
	if (S_ISDIR(st.st_mode)) {
		error = make_dirs(dst, 0755);
		if (error != 0)
			return error;
	} else {
		fd = open(dst, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
		if (fd == -1)
			return -errno;
		(void)close(fd);
	}
	if (mount(src, dst, NULL, MS_BIND | MS_REC, NULL) == -1)
		return -errno;
	if (readonly &&
	    mount_setattr(AT_FDCWD, dst, AT_RECURSIVE, &attr, sizeof(attr)))
		return -errno;
	return 0;
}

/*
 * While the tree is built the working directory is its root: dst is absolute
 * in the VM and so, less its slash, relative here.
 */
static int
bind_in(const char *src, const char *dst, bool readonly)
{
	return bind_path(src, dst + 1, readonly);
}

/* /usr and its kin; a symlink of a merged /usr stays one. */
static int
show_programs(void)
{
	char src[64], target[PATH_MAX];
	const char *dst;
	struct stat st;
	ssize_t n;
	size_t i;
	int error;

	for (i = 0; i < sizeof(host_dirs) / sizeof(host_dirs[0]); i++) {
		(void)snprintf(src, sizeof(src), "/%s", host_dirs[i]);
		dst = host_dirs[i];
		if (lstat(src, &st) == -1)
			continue;
		if (S_ISLNK(st.st_mode)) {
			n = readlink(src, target, sizeof(target) - 1);
			if (n == -1)
				return -errno;
			target[n] = '\0';
			if (symlink(target, dst) == -1)
				return -errno;
			continue;
		}
		error = bind_path(src, dst, true);
		if (error != 0)
			return error;
	}
	for (i = 0; i < sizeof(host_etc) / sizeof(host_etc[0]); i++) {
		(void)snprintf(src, sizeof(src), "/etc/%s", host_etc[i]);
		if (stat(src, &st) == 0)
			(void)bind_in(src, src, true);
	}
	return 0;
}

/* A copy, since the VM may do to its busybox whatever it likes. */
static int
copy_busybox(void)
{
	static const char *const dirs[] = {
	    "bin", "sbin", "usr", "usr/bin", "usr/sbin"};
	struct stat st;
	size_t i;
	int in, out, error = 0;

	for (i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		if (mkdir(dirs[i], 0755) == -1 && errno != EEXIST)
			return -errno;
	}
	in = open("/bin/busybox", O_RDONLY | O_CLOEXEC);
	if (in == -1)
		return -errno;
	out =
	    open("bin/busybox", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
	if (out == -1 || fstat(in, &st) == -1) {
		error = -errno;
	} else {
		while (st.st_size > 0) {
			ssize_t n = copy_file_range(
			    in, NULL, out, NULL, (size_t)st.st_size, 0);
			char chunk[65536];

			if (n == -1) { /* across file systems */
				n = read(in, chunk, sizeof(chunk));
				if (n > 0)
					n = write(out, chunk, (size_t)n);
			}
			if (n <= 0) {
				error = -EIO;
				break;
			}
			st.st_size -= n;
		}
	}
	if (out != -1)
		(void)close(out);
	(void)close(in);
	return error;
}

/* Links for all applets; needs /proc, so it runs inside the new root. */
static int
install_applets(void)
{
	pid_t pid;
	int status;

	pid = fork();
	if (pid == -1)
		return -errno;
	if (pid == 0) {
		(void)execl(
		    "/bin/busybox", "busybox", "--install", "-s", (char *)NULL);
		_exit(127);
	}
	while (waitpid(pid, &status, 0) == -1) {
		if (errno != EINTR)
			return -errno;
	}
	return status == 0 ? 0 : -EIO;
}

static int
make_etc(const struct vm_spec *spec)
{
	char text[1024];
	int error;

	(void)snprintf(text, sizeof(text),
	    "root:x:0:0:root:/root:/bin/sh\n"
	    "user:x:%u:%u:user:%s:/bin/sh\n"
	    "nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
	    spec->uid != 0 ? (unsigned)spec->uid : 1000U,
	    spec->uid != 0 ? (unsigned)spec->uid : 1000U, spec->home);
	error = write_file("etc/passwd", text);
	if (error != 0)
		return error;
	(void)snprintf(text, sizeof(text),
	    "root:x:0:\nuser:x:%u:\nnogroup:x:65534:\n",
	    spec->uid != 0 ? (unsigned)spec->uid : 1000U);
	error = write_file("etc/group", text);
	if (error != 0)
		return error;
	error = write_file("etc/hosts", "127.0.0.1\tlocalhost room\n");
	if (error != 0)
		return error;
	(void)write_file("etc/hostname", "room\n");
	return write_file("etc/resolv.conf", "nameserver 127.0.0.1\n");
}

static int
make_dev(void)
{
	static const char *const links[][2] = {{"/proc/self/fd", "fd"},
	    {"/proc/self/fd/0", "stdin"}, {"/proc/self/fd/1", "stdout"},
	    {"/proc/self/fd/2", "stderr"}, {"pts/ptmx", "ptmx"}};
	char path[64];
	size_t i;
	int error;

	if (mkdir("dev", 0755) == -1 && errno != EEXIST)
		return -errno;
	if (mount("dev", "dev", "tmpfs", MS_NOSUID, "mode=0755") == -1)
		return -errno;
	for (i = 0; i < sizeof(host_devices) / sizeof(host_devices[0]); i++) {
		(void)snprintf(path, sizeof(path), "/dev/%s", host_devices[i]);
		error = bind_in(path, path, false);
		if (error != 0 && strcmp(host_devices[i], "tty") != 0)
			return error;
	}
	for (i = 0; i < sizeof(links) / sizeof(links[0]); i++) {
		(void)snprintf(path, sizeof(path), "dev/%s", links[i][1]);
		(void)!symlink(links[i][0], path);
	}
	if (mkdir("dev/shm", 01777) == 0)
		(void)chmod("dev/shm", 01777);
	if (mkdir("dev/pts", 0755) == 0)
		(void)mount("devpts", "dev/pts", "devpts",
		    MS_NOSUID | MS_NOEXEC,
		    "newinstance,ptmxmode=0666,mode=0620");
	return 0;
}

/* The tree of --dir and --busybox: a tmpfs with the shared parts bound in. */
static int
make_root(const struct vm_spec *spec, const char *root, const char **what)
{
	static const char *const dirs[] = {"proc", "etc", "home", "mnt", "opt",
	    "run", "srv", "sys", "var", "var/tmp", "root"};
	size_t i;
	int error;

	*what = "mount a tmpfs";
	if (mount("room", root, "tmpfs", MS_NODEV, "mode=0755") == -1)
		return -errno;
	*what = "make the room's directories";
	if (chdir(root) == -1)
		return -errno;
	for (i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		if (mkdir(dirs[i], 0755) == -1)
			return -errno;
	}
	(void)chmod("root", 0700);
	(void)chmod("var/tmp", 01777);
	*what = "show the home directory";
	error = bind_in(spec->home_host, spec->home, false);
	if (error != 0)
		return error;
	*what = "show /tmp";
	error = bind_in(spec->tmp_host, "/tmp", false);
	if (error != 0)
		return error;
	*what = "show /workspace";
	error = bind_in(spec->workspace_host, "/workspace", false);
	if (error != 0)
		return error;
	*what = "make /etc";
	error = make_etc(spec);
	if (error != 0)
		return error;
	if (spec->busybox) {
		*what = "copy /bin/busybox (Debian: busybox-static)";
		return copy_busybox();
	}
	*what = "show the host's programs";
	return show_programs();
}

/* The loopback interface of a new network namespace is down. */
static void
raise_loopback(void)
{
	struct ifreq ifr = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd == -1)
		return;
	(void)ioctl(fd, SIOCSIFFLAGS, &ifr);
	(void)close(fd);
}

/*
 * As real root a room could turn the host's knobs through /proc: what docker
 * hides is hidden here, too.
 */
static int
mask_proc(void)
{
	static const char *const readonly[] = {"/proc/sys",
	    "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs",
	    "/proc/acpi", "/proc/scsi"};
	static const char *const hidden[] = {
	    "/proc/kcore", "/proc/keys", "/proc/kmsg", "/proc/timer_list"};
	struct stat st;
	size_t i;
	int error;

	for (i = 0; i < sizeof(readonly) / sizeof(readonly[0]); i++) {
		if (stat(readonly[i], &st) == -1)
			continue;
		error = bind_path(readonly[i], readonly[i], true);
		if (error != 0)
			return error;
	}
	for (i = 0; i < sizeof(hidden) / sizeof(hidden[0]); i++) {
		if (stat(hidden[i], &st) == 0)
			(void)mount(
			    "/dev/null", hidden[i], NULL, MS_BIND, NULL);
	}
	return 0;
}

/*
 * Take tools away, inside the new root: a link to busybox is removed, over a
 * program goes what is none.
 */
static int
hide_tools(const struct vm_spec *spec)
{
	static const char *const dirs[] = {"/usr/local/sbin", "/usr/local/bin",
	    "/usr/sbin", "/usr/bin", "/sbin", "/bin"};
	char names[1024], path[PATH_MAX], *rest = names, *name;
	struct stat st;
	size_t i;

	(void)strlcpy(names, spec->without, sizeof(names));
	while ((name = strsep(&rest, ",")) != NULL) {
		for (i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
			(void)snprintf(
			    path, sizeof(path), "%s/%s", dirs[i], name);
			if (*name == '\0' || stat(path, &st) == -1 ||
			    !S_ISREG(st.st_mode))
				continue;
			if (spec->busybox ? unlink(path) == -1
					  : mount("/dev/null", path, NULL,
						MS_BIND, NULL) == -1)
				return -errno;
		}
	}
	return 0;
}

/* Make the working directory our /, and let go of the old one. */
static int
change_root(void)
{
	if (syscall(SYS_pivot_root, ".", ".") == 0) {
		if (umount2(".", MNT_DETACH) == -1)
			return -errno;
	} else {
		/* The host's / may be an initramfs, which cannot be pivoted. */
		if (mount(".", "/", NULL, MS_MOVE, NULL) == -1 ||
		    chroot(".") == -1)
			return -errno;
	}
	return chdir("/") == -1 ? -errno : 0;
}

/*
 * Build the room's tree and enter it for good.  Returns 0, or -errno with
 * *what naming the step that failed.
 */
int
vmroot_enter(const struct vm_spec *spec, const char **what)
{
	char root[PATH_MAX];
	int error;

	*what = "make the mounts private";
	error = make_private();
	if (error != 0)
		return error;
	(void)snprintf(root, sizeof(root), "%s/mnt", spec->scratch);
	if (spec->kind == VM_ROOTFS) {
		*what = "bind the root file system";
		if (mount(spec->data, root, NULL, MS_BIND | MS_REC, NULL))
			return -errno;
		if (chdir(root) == -1)
			return -errno;
		(void)mkdir("proc", 0755);
	} else {
		error = make_root(spec, root, what);
		if (error != 0)
			return error;
	}
	*what = "make /dev";
	error = make_dev();
	if (error != 0)
		return error;
	*what = "mount /proc";
	if (mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC,
		NULL) == -1)
		return -errno;
	if (spec->kind == VM_DIR) /* nice to have, not needed */
		(void)bind_in("/sys", "/sys", true);
	*what = "change the root directory";
	error = change_root();
	if (error != 0)
		return error;
	*what = "protect /proc";
	error = mask_proc();
	if (error != 0)
		return error;
	(void)!sethostname("room", 4);
	raise_loopback();
	if (spec->busybox) {
		*what = "install busybox";
		error = install_applets();
		if (error != 0)
			return error;
	}
	*what = "take tools away";
	return spec->without != NULL ? hide_tools(spec) : 0;
}
