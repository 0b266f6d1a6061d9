/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Processes for native guest code, see sandbox.h.
 *
 * A sandbox is born from a program of one page made here (ELF, in a memfd), so
 * that nothing of this process is ever in its memory.  Behind exec(2) it unmaps
 * what the kernel gave it (stack, vDSO), and a seccomp filter takes away all
 * system calls but those that change mappings, and whether RDTSC traps.  Those too it makes only when its
 * tracer lets it: it is resumed with PTRACE_SYSEMU, under which the kernel makes
 * no call at all, wherever the instruction may be.
 *
 * What it can see of us: its own pages (code, a filter, a list of mappings that
 * is empty while guest code runs).
 */
#include "cpu/translate/sandbox.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bits.h"

#define PAGE 4096ull
#define LIST (SANDBOX_PAGE + PAGE)
#define LIST_SIZE (SANDBOX_OWN - PAGE)
#define RAM_FD 3
#define LIST_FD 4
#define EXEC_FD 5
#define KICK SIGUSR1
#ifndef PTRACE_SYSEMU
#define PTRACE_SYSEMU 31
#endif

/* A system call to be made: as the code in the page reads it. */
struct sandbox_op {
	uint64_t nr, arg[6];
};
#define MAX_OPS ((unsigned)(LIST_SIZE / sizeof(struct sandbox_op)))

/* The program: headers, then code, then the filter. */
#define AT_CALL 0x100		/* one system call, registers are set */
#define AT_LIST 0x110		/* RBX: the list, R12: how many; stops at the first that fails */
#define AT_FILTER 0x200
#define AT_PROG 0x300

static const uint8_t code_call[] = { 0x0f, 0x05, 0xcc };	/* syscall; int3 */
static const uint8_t code_list[] = {
	0x48, 0x8b, 0x03,			/* mov rax, [rbx] */
	0x48, 0x8b, 0x7b, 0x08,			/* mov rdi, [rbx + 8] */
	0x48, 0x8b, 0x73, 0x10,			/* mov rsi, [rbx + 16] */
	0x48, 0x8b, 0x53, 0x18,			/* mov rdx, [rbx + 24] */
	0x4c, 0x8b, 0x53, 0x20,			/* mov r10, [rbx + 32] */
	0x4c, 0x8b, 0x43, 0x28,			/* mov r8, [rbx + 40] */
	0x4c, 0x8b, 0x4b, 0x30,			/* mov r9, [rbx + 48] */
	0x0f, 0x05,				/* syscall */
	0x48, 0x3d, 0x00, 0xf0, 0xff, 0xff,	/* cmp rax, -4096 */
	0x77, 0x09,				/* ja out */
	0x48, 0x83, 0xc3, 0x38,			/* add rbx, 56 */
	0x49, 0xff, 0xcc,			/* dec r12 */
	0x75, 0xd2,				/* jnz the first */
	0xcc,					/* out: int3 */
};
_Static_assert(sizeof(struct sandbox_op) == 56, "as the code steps");

static const struct sock_filter filter[] = {
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 6),
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 5, 0),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_munmap, 4, 0),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_prctl, 0, 2),
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args)),	/* the low half: an int */
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PR_SET_TSC, 1, 0),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
};

static void make_program(uint8_t page[PAGE])
{
	Elf64_Ehdr eh = { .e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT }, .e_type = ET_EXEC,
			  .e_machine = EM_X86_64, .e_version = EV_CURRENT, .e_entry = SANDBOX_PAGE + AT_CALL + 2,
			  .e_phoff = sizeof(Elf64_Ehdr), .e_ehsize = sizeof(Elf64_Ehdr), .e_phentsize = sizeof(Elf64_Phdr), .e_phnum = 2 };
	Elf64_Phdr ph[2] = { { .p_type = PT_LOAD, .p_flags = PF_R | PF_X, .p_vaddr = SANDBOX_PAGE, .p_paddr = SANDBOX_PAGE,
			       .p_filesz = PAGE, .p_memsz = PAGE, .p_align = PAGE },
			     { .p_type = PT_GNU_STACK, .p_flags = PF_R | PF_W } };
	struct sock_fprog prog = { .len = ARRAY_LEN(filter), .filter = (struct sock_filter *)(uintptr_t)(SANDBOX_PAGE + AT_FILTER) };

	memset(page, 0xcc, PAGE);
	memcpy(page, &eh, sizeof(eh));
	memcpy(page + sizeof(eh), ph, sizeof(ph));
	memcpy(page + AT_CALL, code_call, sizeof(code_call));
	memcpy(page + AT_LIST, code_list, sizeof(code_list));
	memcpy(page + AT_FILTER, filter, sizeof(filter));
	memcpy(page + AT_PROG, &prog, sizeof(prog));
}

static int program_fd(void)
{
	int fd = memfd_create("lodge-sandbox", MFD_CLOEXEC);
	uint8_t page[PAGE];

	if (fd < 0)
		return -errno;
	make_program(page);
	if (pwrite(fd, page, PAGE, 0) != (ssize_t)PAGE) {
		close(fd);
		return -EIO;
	}
	return fd;
}

/* --- the child, in our memory until exec (vfork) --- */

static void child(const int fds[3])
{
	static char name[] = "lodge-guest-user", *argv[] = { name, NULL }, *envp[] = { NULL };
	struct rlimit none = { 0, 0 };
	int high[3];
	sigset_t empty;

	for (int n = 0; n < 3; n++)
		if ((high[n] = fcntl(fds[n], F_DUPFD, 16)) < 0)
			return;
	if (dup2(high[0], RAM_FD) < 0 || dup2(high[1], LIST_FD) < 0 || dup2(high[2], EXEC_FD) < 0)
		return;
	close(0);
	close(1);
	close(2);
	if (syscall(SYS_close_range, EXEC_FD + 1, ~0u, 0) < 0)
		for (int fd = EXEC_FD + 1; fd < 4096; fd++)
			close(fd);
	fcntl(EXEC_FD, F_SETFD, FD_CLOEXEC);
	/* Signals of the terminal are not for it; no session of its own, which the host would schedule by itself (autogroups). */
	setpgid(0, 0);
	sigemptyset(&empty);
	sigprocmask(SIG_SETMASK, &empty, NULL);
	setrlimit(RLIMIT_CORE, &none);
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || ptrace(PTRACE_TRACEME, 0, 0, 0) < 0)
		return;
	syscall(SYS_execveat, EXEC_FD, "", argv, envp, AT_EMPTY_PATH);
}

/* --- the tracer --- */

/* Until it stops; its wait status, or -1 if it is gone. */
static int wait_stop(struct sandbox *s)
{
	int st;

	while (waitpid(s->pid, &st, __WALL) < 0)
		if (errno != EINTR)
			return -1;
	return WIFSTOPPED(st) ? st : -1;
}

/* On the CPU we are on, where that is wanted: tracer and process run in turn, and waking another CPU takes
 * ten times as long (110 us instead of 8 on a virtual machine whose CPU had gone idle). */
static void come_here(struct sandbox *s)
{
	int cpu = s->here ? sched_getcpu() : -1;
	cpu_set_t set = s->anywhere;

	if (cpu == s->cpu)
		return;
	if (cpu >= 0) {
		CPU_ZERO(&set);
		CPU_SET((unsigned)cpu, &set);
	}
	if (sched_setaffinity(s->pid, sizeof(set), &set) == 0)
		s->cpu = cpu;
}

/* Code of its own page runs until its int3. Kicks on the way are kept for later. */
static bool run_own(struct sandbox *s, struct user_regs_struct *r)
{
	bool kicked = false;
	int st;

	come_here(s);
	r->orig_rax = (unsigned long long)-1;
	r->eflags = 0x202;
	r->cs = 0x33;
	r->ss = 0x2b;
	if (ptrace(PTRACE_SETREGS, s->pid, 0, r) < 0)
		return false;
	for (;;) {
		if (ptrace(PTRACE_CONT, s->pid, 0, 0) < 0)
			return false;
		st = wait_stop(s);
		if (st < 0)
			return false;
		if (WSTOPSIG(st) != KICK)
			break;
		kicked = true;
	}
	if (kicked)
		sandbox_kick(s->pid);
	return WSTOPSIG(st) == SIGTRAP && ptrace(PTRACE_GETREGS, s->pid, 0, r) == 0;
}

static int64_t call(struct sandbox *s, uint64_t nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
{
	struct user_regs_struct r = { .rax = nr, .rdi = a, .rsi = b, .rdx = c, .r10 = d, .r8 = e, .r9 = f, .rip = SANDBOX_PAGE + AT_CALL };

	return run_own(s, &r) ? (int64_t)r.rax : -ESRCH;
}

bool sandbox_apply(struct sandbox *s)
{
	struct user_regs_struct r = { .rbx = LIST, .r12 = s->n_ops, .rip = SANDBOX_PAGE + AT_LIST };
	bool ok;

	if (!s->n_ops)
		return true;
	ok = run_own(s, &r) && !r.r12;
	memset(s->ops, 0, s->n_ops * sizeof(*s->ops));	/* where guest memory is is not for its programs */
	s->n_ops = 0;
	return ok;
}

static bool add(struct sandbox *s, const struct sandbox_op *op)
{
	if (s->n_ops == MAX_OPS && !sandbox_apply(s))
		return false;
	s->ops[s->n_ops++] = *op;
	return true;
}

bool sandbox_map(struct sandbox *s, uint64_t lin, uint64_t offset, uint64_t len, int prot)
{
	struct sandbox_op op = { SYS_mmap, { lin, len, (uint64_t)prot, MAP_SHARED | MAP_FIXED | MAP_POPULATE, RAM_FD, offset } };
	struct sandbox_op *last = s->n_ops ? &s->ops[s->n_ops - 1] : NULL;

	if (last && last->nr == SYS_mmap && last->arg[0] + last->arg[1] == lin && last->arg[5] + last->arg[1] == offset &&
	    last->arg[2] == (uint64_t)prot) {
		last->arg[1] += len;
		return true;
	}
	return add(s, &op);
}

bool sandbox_unmap(struct sandbox *s, uint64_t lin, uint64_t len)
{
	struct sandbox_op op = { SYS_munmap, { lin, len } };
	struct sandbox_op *last = s->n_ops ? &s->ops[s->n_ops - 1] : NULL;

	if (last && last->nr == SYS_munmap && last->arg[0] + last->arg[1] == lin) {
		last->arg[1] += len;
		return true;
	}
	return add(s, &op);
}

bool sandbox_tsc(struct sandbox *s, bool allowed)
{
	struct sandbox_op op = { SYS_prctl, { PR_SET_TSC, allowed ? PR_TSC_ENABLE : PR_TSC_SIGSEGV } };

	if (s->tsc_allowed == allowed)
		return true;
	s->tsc_allowed = allowed;
	return add(s, &op);
}

bool sandbox_clear(struct sandbox *s)
{
	memset(s->ops, 0, s->n_ops * sizeof(*s->ops));
	s->n_ops = 0;
	return sandbox_unmap(s, 0, SANDBOX_PAGE) &&
	       sandbox_unmap(s, SANDBOX_PAGE + SANDBOX_OWN, SANDBOX_TOP - SANDBOX_PAGE - SANDBOX_OWN) && sandbox_apply(s);
}

static int setup(struct sandbox *s)
{
	int st = wait_stop(s);	/* exec's SIGTRAP */
	int64_t r;

	if (st < 0 || WSTOPSIG(st) != SIGTRAP || ptrace(PTRACE_SETOPTIONS, s->pid, 0, PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD) < 0)
		return -EPERM;
	r = call(s, SYS_mmap, LIST, LIST_SIZE, PROT_READ, MAP_SHARED | MAP_FIXED, LIST_FD, 0);
	if (r < 0)
		return (int)r;
	if (!sandbox_clear(s))
		return -EPERM;
	r = call(s, SYS_prctl, PR_SET_TSC, PR_TSC_SIGSEGV, 0, 0, 0, 0);
	if (r == 0)
		r = call(s, SYS_close, LIST_FD, 0, 0, 0, 0, 0);
	if (r == 0)
		r = call(s, SYS_prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, SANDBOX_PAGE + AT_PROG, 0, 0, 0);
	return (int)r;
}

int sandbox_new(struct sandbox *s, int ram_fd, struct err *e)
{
	int list = -1, fds[3], r = 0;
	pid_t pid;

	memset(s, 0, sizeof(*s));
	s->ops = MAP_FAILED;
	list = memfd_create("lodge-sandbox-list", MFD_CLOEXEC);
	if (list >= 0 && ftruncate(list, (off_t)LIST_SIZE) == 0)
		s->ops = mmap(NULL, LIST_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, list, 0);
	fds[0] = ram_fd;
	fds[1] = list;
	fds[2] = program_fd();
	if (s->ops == MAP_FAILED || fds[2] < 0) {
		r = fds[2] < 0 ? fds[2] : -ENOMEM;
		goto out;
	}
	pid = vfork();
	if (pid == 0) {
		child(fds);
		_exit(127);
	}
	if (pid < 0) {
		r = -errno;
		goto out;
	}
	s->pid = pid;
	s->cpu = -1;
	sched_getaffinity(pid, sizeof(s->anywhere), &s->anywhere);
	r = setup(s);
out:
	if (fds[2] >= 0)
		close(fds[2]);
	if (list >= 0)
		close(list);
	if (r) {
		sandbox_free(s);
		return err_set(e, r, "no process for native user code: %s", strerror(-r));
	}
	return 0;
}

void sandbox_free(struct sandbox *s)
{
	if (s->pid > 0) {
		kill(s->pid, SIGKILL);
		while (waitpid(s->pid, NULL, __WALL) < 0 && errno == EINTR)
			;
	}
	if (s->ops && s->ops != MAP_FAILED)
		munmap(s->ops, LIST_SIZE);
	s->pid = 0;
	s->ops = NULL;
}

static bool get_state(struct sandbox *s)
{
	struct iovec iov = { s->xstate, sizeof(s->xstate) };

	if (ptrace(PTRACE_GETREGS, s->pid, 0, &s->regs) < 0 || ptrace(PTRACE_GETREGSET, s->pid, NT_X86_XSTATE, &iov) < 0)
		return false;
	s->xstate_len = (unsigned)iov.iov_len;
	return true;
}

enum sandbox_stop sandbox_run(struct sandbox *s)
{
	struct iovec iov = { s->xstate, s->xstate_len };
	siginfo_t si;
	int st;

	come_here(s);
	s->regs.orig_rax = (unsigned long long)-1;
	if (ptrace(PTRACE_SETREGS, s->pid, 0, &s->regs) < 0 ||
	    (s->xstate_new && ptrace(PTRACE_SETREGSET, s->pid, NT_X86_XSTATE, &iov) < 0) || ptrace(PTRACE_SYSEMU, s->pid, 0, 0) < 0)
		return SANDBOX_GONE;
	s->xstate_new = false;
	st = wait_stop(s);
	if (st < 0 || !get_state(s))
		return SANDBOX_GONE;
	s->signo = WSTOPSIG(st);
	if (s->signo == (SIGTRAP | 0x80))
		return SANDBOX_SYSCALL;
	if (s->signo == KICK)
		return SANDBOX_KICKED;
	if (ptrace(PTRACE_GETSIGINFO, s->pid, 0, &si) < 0)
		return SANDBOX_GONE;
	s->code = si.si_code;
	s->fault_addr = (uint64_t)(uintptr_t)si.si_addr;
	if (s->signo == SIGSYS) {	/* a call of the host's vsyscall page, which is not made, but returned from */
		s->regs.rip = (uint64_t)(uintptr_t)si.si_call_addr;
		s->regs.rsp -= 8;
	}
	return SANDBOX_SIGNAL;
}

void sandbox_kick(pid_t pid)
{
	syscall(SYS_tgkill, pid, pid, KICK);
}
