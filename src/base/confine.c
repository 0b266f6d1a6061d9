// SPDX-License-Identifier: GPL-2.0-or-later
/* See confine.h.  The filters are programs that libseccomp made, kept ready, so that a thread that begins takes its own with one call. */
#include "base/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/confine_list.h"
#include "base/log.h"

#define REFUSALS_TOLD 10
#define EXIT_BROKEN 126		/* the status of a process whose thread cannot be confined */

static struct sock_fprog programs[CONFINE_CLASSES];
static bool prepared, strict;
static atomic_uint refused;
static const char *const class_words[] = { "vcpu", "io", "screen", "net", "peer", "share", "main" };

/* ---- making them ---- */

static int add_rule(scmp_filter_ctx ctx, const struct confine_rule *r)
{
	struct scmp_arg_cmp when[ARRAY_LEN(r->when)];
	int ret;

	for (unsigned i = 0; i < r->n_when; i++)
		when[i] = (struct scmp_arg_cmp){ r->when[i].arg, SCMP_CMP_MASKED_EQ, r->when[i].mask, r->when[i].value };
	ret = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, r->nr, r->n_when, when);
	return ret == -EEXIST ? 0 : ret;
}

static int add_rules(scmp_filter_ctx ctx, enum confine_class c, bool native)
{
	const struct confine_rule own = { SCMP_SYS(tgkill), TO_ALL, { { 0, UINT32_MAX, (uint32_t)getpid() } }, 1 };
	int ret = add_rule(ctx, &own);

	for (size_t i = 0; i < confine_n_rules && !ret; i++) {
		const struct confine_rule *r = &confine_rules[i];

		if ((r->to & CONFINE_BIT(c)) && (native || !(r->to & ONLY_NATIVE)))
			ret = add_rule(ctx, r);
	}
	/* free() looks into /proc/sys/vm/overcommit_memory and does without: nobody else here opens that way. */
	if (!ret && (c < CONFINE_NET || c == CONFINE_PEER))
		ret = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EACCES), SCMP_SYS(openat), 1, SCMP_A2_32(SCMP_CMP_EQ, O_RDONLY | O_CLOEXEC));
	for (size_t i = 0; i < confine_n_unknown && !ret; i++)
		ret = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), confine_unknown[i], 0);
	return ret;
}

/* The program, read back from where libseccomp 2.5 can write it to: a file. */
static int take_program(scmp_filter_ctx ctx, struct sock_fprog *out)
{
	int fd = memfd_create("confine", MFD_CLOEXEC), ret;
	off_t len;

	if (fd < 0)
		return -errno;
	ret = seccomp_export_bpf(ctx, fd);
	len = ret ? 0 : lseek(fd, 0, SEEK_END);
	if (!ret && (len <= 0 || len % (off_t)sizeof(struct sock_filter) || len / (off_t)sizeof(struct sock_filter) > BPF_MAXINSNS))
		ret = -E2BIG;
	out->filter = ret ? NULL : malloc((size_t)len);
	if (!ret && (!out->filter || pread(fd, out->filter, (size_t)len, 0) != (ssize_t)len))
		ret = -ENOMEM;
	out->len = (unsigned short)((size_t)len / sizeof(struct sock_filter));
	close(fd);
	return ret;
}

static int make_program(enum confine_class c, bool native, struct sock_fprog *out)
{
	/* Programs that the main thread starts have its filter and not this one's handler: there, a call just fails. */
	scmp_filter_ctx ctx = seccomp_init(c == CONFINE_MAIN && !strict ? SCMP_ACT_ERRNO(EPERM) : SCMP_ACT_TRAP);
	int ret;

	if (!ctx)
		return -ENOMEM;
	ret = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	ret = ret ? ret : add_rules(ctx, c, native);
	ret = ret ? ret : take_program(ctx, out);
	seccomp_release(ctx);
	return ret;
}

static void free_programs(void)
{
	for (unsigned c = 0; c < CONFINE_CLASSES; c++) {
		free(programs[c].filter);
		programs[c] = (struct sock_fprog){ 0 };
	}
}

static size_t put(char *to, size_t at, const char *text)
{
	size_t n = strlen(text);

	memcpy(to + at, text, n);
	return at + n;
}

/* In place of a call that is not in the list: nothing here may take a lock.  It is refused, and the guest lives on if those who
 * called can do without. */
static void on_trap(int sig, siginfo_t *info, void *context)
{
	ucontext_t *u = context;
	char text[256], digits[16], name[16] = "?";
	size_t n = 0, d = sizeof(digits) - 1;
	unsigned nr = (unsigned)info->si_syscall;

	prctl(PR_GET_NAME, name);
	digits[d] = '\0';
	do {
		digits[--d] = (char)('0' + nr % 10);
		nr /= 10;
	} while (nr);
	n = put(text, n, "\r\nlodge: thread '");
	n = put(text, n, name);
	n = put(text, n, "' made system call ");
	n = put(text, n, digits + d);
	n = put(text, n, ", which its sandbox refuses: a bug in Lodge, or an attack; --sandbox off runs without.\r\n");
	if (atomic_fetch_add(&refused, 1) < REFUSALS_TOLD && write(STDERR_FILENO, text, n) < 0 && strict)
		_exit(EXIT_BROKEN);
	if (strict)
		abort();	/* where core files are wanted, one says where it was */
	u->uc_mcontext.gregs[REG_RAX] = -EPERM;
}

static int trap_with(void (*handler)(int, siginfo_t *, void *))
{
	struct sigaction a = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO };

	sigemptyset(&a.sa_mask);
	return sigaction(SIGSYS, &a, NULL) ? -errno : 0;
}

static int opener_start(void);

int confine_prepare(bool native, struct err *e)
{
	uint32_t trap = SECCOMP_RET_TRAP;
	int ret = 0;

	strict = getenv("LODGE_SANDBOX_STRICT") != NULL;
	if (syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &trap))
		return err_set(e, -ENOSYS, "this kernel filters no system calls (seccomp: %s)", strerror(errno));
	for (unsigned c = 0; c < CONFINE_CLASSES && !ret; c++)
		ret = make_program((enum confine_class)c, native, &programs[c]);
	ret = ret ? ret : trap_with(on_trap);
	if (ret) {
		free_programs();
		return err_set(e, ret, "the filters of system calls cannot be made: %s", strerror(-ret));
	}
	prepared = true;
	ret = opener_start();
	prepared = !ret;
	return ret ? err_set(e, ret, "the thread that opens disks once more cannot be started: %s", strerror(-ret)) : 0;
}

/* ---- opening once more ---- */

/* One request at a time. */
static struct {
	pthread_mutex_t callers, lock;
	pthread_cond_t cond;
	bool asked, answered;
	int fd, flags, result;
} opener = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, false, -1, 0, 0 };

static int open_again(int fd, int flags)
{
	char link[64];

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	fd = open(link, flags | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static void *opener_main(void *arg)
{
	pthread_setname_np(pthread_self(), "opener");
	confine_enter(CONFINE_SHARE);
	pthread_mutex_lock(&opener.lock);
	for (;;) {
		while (!opener.asked)
			pthread_cond_wait(&opener.cond, &opener.lock);
		opener.asked = false;
		opener.result = open_again(opener.fd, opener.flags);
		opener.answered = true;
		pthread_cond_broadcast(&opener.cond);
	}
	return NULL;
}

static int opener_start(void)
{
	sigset_t all, old;
	pthread_t t;
	int ret;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ret = pthread_create(&t, NULL, opener_main, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return ret ? -ret : -pthread_detach(t);	/* it lives as long as the process */
}

int confine_reopen(int fd, int flags)
{
	int ret;

	if (!prepared)
		return open_again(fd, flags);
	pthread_mutex_lock(&opener.callers);
	pthread_mutex_lock(&opener.lock);
	opener.fd = fd;
	opener.flags = flags;
	opener.asked = true;
	opener.answered = false;
	pthread_cond_broadcast(&opener.cond);
	while (!opener.answered)
		pthread_cond_wait(&opener.cond, &opener.lock);
	ret = opener.result;
	pthread_mutex_unlock(&opener.lock);
	pthread_mutex_unlock(&opener.callers);
	return ret;
}

bool confine_wanted(void) { return prepared; }

/* ---- taking them ---- */

/* What root keeps for the main thread: files of other users, interfaces, priorities.  The rest is the kernel's own business. */
#define KEPT_CAPS (CAP(CHOWN) | CAP(DAC_OVERRIDE) | CAP(DAC_READ_SEARCH) | CAP(FOWNER) | CAP(FSETID) | CAP(KILL) | CAP(SETGID) | CAP(SETUID) | \
		   CAP(NET_BIND_SERVICE) | CAP(NET_ADMIN) | CAP(IPC_LOCK) | CAP(SYS_NICE) | CAP(SYS_RESOURCE) | CAP(MKNOD))
#define CAP(c) (1u << CAP_##c)

static int drop_caps(uint32_t keep)
{
	struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct d[2];

	if (syscall(SYS_capget, &h, d))
		return -errno;
	d[0].effective &= keep;
	d[0].permitted &= keep;
	d[1] = (struct __user_cap_data_struct){ 0 };
	d[0].inheritable = 0;
	return syscall(SYS_capset, &h, d) ? -errno : 0;
}

static int take(enum confine_class c)
{
	sigset_t trap;
	int ret;

	sigemptyset(&trap);
	sigaddset(&trap, SIGSYS);
	pthread_sigmask(SIG_UNBLOCK, &trap, NULL);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -errno;
	/* A peer's socket may be another user's. */
	ret = drop_caps(c == CONFINE_MAIN || c == CONFINE_SHARE ? KEPT_CAPS : c == CONFINE_PEER ? CAP(DAC_OVERRIDE) : 0);
	if (ret)
		return ret;
	/* Speculation is left as it was: what guests' code may learn by it does not hang on a filter. */
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &programs[c]) ? -errno : 0;
}

void confine_enter(enum confine_class c)
{
	int ret = prepared ? take(c) : 0;

	if (!ret)
		return;
	log_error("a thread of kind '%s' cannot be confined: %s; --sandbox off runs without", class_words[c], strerror(-ret));
	_exit(EXIT_BROKEN);
}

/* ---- trying them ---- */

static volatile sig_atomic_t trapped;

static void on_tried(int sig, siginfo_t *info, void *context)
{
	trapped = 1;
}

/* Harmless where it does go through: descriptors and addresses that there are not. */
static const struct {
	const char *name;
	long nr, a, b, c, d;
} tries[] = {
	{ "open", SYS_open, 0, O_RDONLY }, { "openat", SYS_openat, AT_FDCWD, 0, O_RDWR }, { "openat2", SYS_openat2, AT_FDCWD },
	{ "creat", SYS_creat }, { "open_by_handle_at", SYS_open_by_handle_at, -1 }, { "name_to_handle_at", SYS_name_to_handle_at, -1 },
	{ "memfd_create", SYS_memfd_create, 0, -1 }, { "io_uring_setup", SYS_io_uring_setup, 0 }, { "io_uring_register", SYS_io_uring_register, -1 },
	{ "socket", SYS_socket, -1 }, { "socketpair", SYS_socketpair, -1 }, { "connect", SYS_connect, -1 }, { "bind", SYS_bind, -1 },
	{ "listen", SYS_listen, -1 }, { "sendto with an address", SYS_sendto, -1 }, { "execve", SYS_execve }, { "execveat", SYS_execveat, -1 },
	{ "ptrace of another", SYS_ptrace, PTRACE_ATTACH, 0 }, { "ptrace (seize)", SYS_ptrace, PTRACE_SEIZE, 0 },
	{ "process_vm_readv", SYS_process_vm_readv, 0 }, { "process_vm_writev", SYS_process_vm_writev, 0 }, { "pidfd_open", SYS_pidfd_open, 0 },
	{ "pidfd_getfd", SYS_pidfd_getfd, -1 }, { "tgkill of another", SYS_tgkill, 1, 1, 0 }, { "unlink", SYS_unlink }, { "rename", SYS_rename },
	{ "link", SYS_link }, { "symlink", SYS_symlink }, { "mkdir", SYS_mkdir }, { "mknod", SYS_mknod }, { "chmod", SYS_chmod }, { "chown", SYS_chown },
	{ "truncate", SYS_truncate }, { "chdir", SYS_chdir }, { "chroot", SYS_chroot }, { "mount", SYS_mount }, { "umount2", SYS_umount2 },
	{ "move_mount", SYS_move_mount, -1 }, { "fsopen", SYS_fsopen }, { "pivot_root", SYS_pivot_root }, { "unshare", SYS_unshare, 0 },
	{ "setns", SYS_setns, -1 }, { "bpf", SYS_bpf, -1 }, { "perf_event_open", SYS_perf_event_open }, { "userfaultfd", SYS_userfaultfd, -1 },
	{ "init_module", SYS_init_module }, { "finit_module", SYS_finit_module, -1 }, { "kexec_load", SYS_kexec_load, 0, -1 }, { "reboot", SYS_reboot },
	{ "keyctl", SYS_keyctl, -1 }, { "add_key", SYS_add_key }, { "inotify_init1", SYS_inotify_init1, -1 }, { "fanotify_init", SYS_fanotify_init, -1 },
	{ "setuid", SYS_setuid, -1 }, { "setresuid", SYS_setresuid, -1, -1, -1 }, { "personality", SYS_personality, 0xffffffff },
	{ "iopl", SYS_iopl, 4 }, { "modify_ldt", SYS_modify_ldt, -1 }, { "mmap of code", SYS_mmap, 1, 0, PROT_EXEC, MAP_PRIVATE },
	{ "mprotect of code", SYS_mprotect, 1, 0, PROT_READ | PROT_EXEC }, { "pkey_mprotect", SYS_pkey_mprotect, 1, 0, PROT_EXEC },
	{ "clone with namespaces", SYS_clone, CLONE_NEWUSER | CLONE_VM | CLONE_SIGHAND | CLONE_NEWNS }, { "ioctl TIOCSTI", SYS_ioctl, -1, TIOCSTI },
	{ "fork", SYS_fork },
};

/* In a process of its own: what it says on the pipe's end, if anything, went through. */
static void try_all(enum confine_class c, int out)
{
	struct err e = { "" };
	pid_t own = getpid();

	if (confine_prepare(false, &e) || trap_with(on_tried) || take(c)) {
		dprintf(out, "%s", e.msg[0] ? e.msg : "a filter cannot be taken");
		_exit(1);
	}
	for (size_t i = 0; i < ARRAY_LEN(tries); i++) {
		trapped = 0;
		syscall(tries[i].nr, tries[i].a, tries[i].b, tries[i].c, tries[i].d, 0x1000, 16);
		if (getpid() != own)
			_exit(0);
		if (trapped)
			continue;
		dprintf(out, "a thread of kind '%s' can make system call %s", class_words[c], tries[i].name);
		_exit(1);
	}
	if (open("/dev/null", O_RDONLY | O_CLOEXEC) >= 0) {
		dprintf(out, "a thread of kind '%s' can open a file", class_words[c]);
		_exit(1);
	}
	_exit(0);
}

static int test_class(enum confine_class c, struct err *e)
{
	int fds[2], status = 0;
	char text[200];
	ssize_t n;
	pid_t pid;

	if (pipe(fds))
		return err_set(e, -errno, "pipe: %s", strerror(errno));
	pid = fork();
	if (!pid) {
		close(fds[0]);
		try_all(c, fds[1]);
	}
	close(fds[1]);
	n = pid < 0 ? -1 : read(fds[0], text, sizeof(text) - 1);
	close(fds[0]);
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		return err_set(e, -errno, "a process for trying them cannot be had: %s", strerror(errno));
	if (n <= 0 && WIFEXITED(status) && !WEXITSTATUS(status))
		return 0;
	if (n <= 0)
		return err_set(e, -EPERM, "a thread of kind '%s' ends by the filter instead of being told", class_words[c]);
	text[n] = '\0';
	return err_set(e, -EPERM, "%s", text);
}

int confine_self_test(struct err *e)
{
	int ret = 0;

	/* CONFINE_NET and CONFINE_MAIN open and connect. */
	for (unsigned c = CONFINE_VCPU; c <= CONFINE_SCREEN && !ret; c++)
		ret = test_class((enum confine_class)c, e);
	return ret;
}
