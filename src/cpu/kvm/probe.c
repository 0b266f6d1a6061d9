// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Can KVM run a guest here, and well?  CPU flags do not tell: there are hosts
 * whose /dev/kvm runs user-mode code at full speed without VT-x or AMD-V, but
 * emulates kernel-mode code instruction by instruction and stops at those its
 * emulator lacks.  So a few instructions of each kind are run, and kernel mode
 * is timed against user mode and the same loop run natively.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/bits.h"
#include "cpu/kvm/priv.h"
#include "cpu/kvm/probe_code.h"

#define MEM_SIZE 0x200000u
#define CODE 0x1000u
#define SCRATCH 0x2000u
#define STACK 0x4000u
#define PML4 0x10000u
#define TIMEOUT_NS 2000000000ull
/* Kernel mode this many times slower than user mode, and more than a moment, is
 * emulation; the best of several tries counts, as hosts are busy. */
#define SLOW_FACTOR 12
#define TRIES 4
#define SLOW_SLACK_NS 5000000ull

struct guest {
	int kvm, vm, cpu;
	uint8_t *mem;
	struct kvm_run *run;
	size_t run_size;
	struct kvm_sregs start;
};

/* --- opening the device --- */

static bool in_container(void)
{
	return getenv("container") || access("/.dockerenv", F_OK) == 0 || access("/run/.containerenv", F_OK) == 0;
}

static bool cpu_flag(const char *flag)
{
	FILE *f = fopen("/proc/cpuinfo", "re");
	bool found = false;
	char *line = NULL;
	size_t cap = 0;

	while (f && !found && getline(&line, &cap, f) > 0)
		found = !strncmp(line, "flags", 5) && strstr(line, flag);
	free(line);
	if (f)
		fclose(f);
	return found;
}

static void why_missing(char *why, size_t why_len, char *cure, size_t cure_len)
{
	bool vmx = cpu_flag(" vmx"), svm = cpu_flag(" svm");

	snprintf(why, why_len, "/dev/kvm does not exist");
	if (in_container())
		snprintf(cure, cure_len, "it was not passed into this container: start it with --device /dev/kvm");
	else if (vmx || svm)
		snprintf(cure, cure_len, "load the module: sudo modprobe %s", vmx ? "kvm_intel" : "kvm_amd");
	else
		snprintf(cure, cure_len,
			 "this CPU shows neither VT-x nor AMD-V: switch it on in the firmware's setup, or on a virtual "
			 "machine ask for nested virtualization");
}

static void why_forbidden(int code, char *why, size_t why_len, char *cure, size_t cure_len)
{
	snprintf(why, why_len, "no permission to open /dev/kvm (%s)", strerror(code));
	if (in_container())
		snprintf(cure, cure_len, "allow it to this container: start it with --device /dev/kvm");
	else
		snprintf(cure, cure_len, "join its group: sudo usermod -aG kvm $USER, then log in again");
}

int kvm_open(char *why, size_t why_len, char *cure, size_t cure_len)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC), code = errno;

	*why = *cure = 0;
	if (fd >= 0 && ioctl(fd, KVM_GET_API_VERSION, 0) == KVM_API_VERSION)
		return fd;
	if (fd >= 0) {
		close(fd);
		snprintf(why, why_len, "/dev/kvm is not KVM's device, or of an unknown version");
		return -ENODEV;
	}
	if (code == ENOENT)
		why_missing(why, why_len, cure, cure_len);
	else if (code == EACCES || code == EPERM)
		why_forbidden(code, why, why_len, cure, cure_len);
	else if (code == ENODEV || code == ENXIO)
		snprintf(why, why_len, "/dev/kvm exists, but no KVM module serves it");
	else
		snprintf(why, why_len, "/dev/kvm cannot be opened: %s", strerror(code));
	return -code;
}

/* --- a guest of one vCPU and 2 MiB --- */

static void guest_close(struct guest *g)
{
	if (g->run != MAP_FAILED)
		munmap(g->run, g->run_size);
	if (g->cpu >= 0)
		close(g->cpu);
	if (g->vm >= 0)
		close(g->vm);
	if (g->mem != MAP_FAILED)
		munmap(g->mem, MEM_SIZE);
}

static void give_cpuid(struct guest *g)
{
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + KVM_MAX_CPUID * sizeof(c->entries[0]));

	if (!c)
		return;
	c->nent = KVM_MAX_CPUID;
	if (ioctl(g->kvm, KVM_GET_SUPPORTED_CPUID, c) == 0)
		ioctl(g->cpu, KVM_SET_CPUID2, c);
	free(c);
}

/* 0, or -1 with errno set. */
static int guest_open(struct guest *g, int kvm)
{
	struct kvm_userspace_memory_region r = { .memory_size = MEM_SIZE };
	int size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);

	*g = (struct guest){ .kvm = kvm, .vm = -1, .cpu = -1, .run = MAP_FAILED, .run_size = (size_t)size };
	g->mem = mmap(NULL, MEM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (g->mem == MAP_FAILED || size < (int)sizeof(*g->run))
		return -1;
	r.userspace_addr = (uintptr_t)g->mem;
	g->vm = ioctl(kvm, KVM_CREATE_VM, 0);
	if (g->vm < 0)
		return -1;
	ioctl(g->vm, KVM_SET_TSS_ADDR, 0xfeffd000ul);
	if (ioctl(g->vm, KVM_SET_USER_MEMORY_REGION, &r) < 0)
		return -1;
	g->cpu = ioctl(g->vm, KVM_CREATE_VCPU, 0);
	if (g->cpu < 0)
		return -1;
	g->run = mmap(NULL, g->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, g->cpu, 0);
	if (g->run == MAP_FAILED)
		return -1;
	give_cpuid(g);
	return ioctl(g->cpu, KVM_GET_SREGS, &g->start);
}

static void long_mode(struct guest *g, struct kvm_sregs *s, unsigned dpl)
{
	struct kvm_segment seg = {
		.limit = 0xffffffff, .selector = (uint16_t)(8 | dpl), .type = 11, .present = 1,
		.dpl = (uint8_t)dpl, .s = 1, .l = 1, .g = 1,
	};

	st_le64(g->mem + PML4, (PML4 + 0x1000) | 7);
	st_le64(g->mem + PML4 + 0x1000, (PML4 + 0x2000) | 7);
	st_le64(g->mem + PML4 + 0x2000, 0 | 0x87);
	s->cs = seg;
	seg.type = 3;
	seg.l = 0;
	seg.db = 1;
	seg.selector = (uint16_t)(16 | dpl);
	s->ds = s->es = s->fs = s->gs = s->ss = seg;
	s->cr3 = PML4;
	s->cr4 = 0x620;		/* PAE, OSFXSR, OSXMMEXCPT */
	s->cr0 = 0x80000013;	/* PG, ET, MP, PE */
	s->efer = 0x500;	/* LME, LMA */
}

static int guest_set(struct guest *g, int piece)
{
	struct kvm_regs r = { .rip = CODE, .rflags = 2, .rsp = STACK, .rbx = SCRATCH };
	struct kvm_sregs s = g->start;

	memcpy(g->mem + CODE, probe_code[piece].start, probe_code[piece].len);
	s.cs.base = 0;
	s.cs.selector = 0;
	if (piece != PROBE_REAL)
		long_mode(g, &s, piece == PROBE_RING3 ? 3 : 0);
	if (piece == PROBE_RING3)
		r.rflags |= 0x3000;	/* IOPL 3: the port write is allowed */
	return ioctl(g->cpu, KVM_SET_SREGS, &s) < 0 ? -1 : ioctl(g->cpu, KVM_SET_REGS, &r);
}

/* KVM_RUN, interrupted after TIMEOUT_NS. */
static int run_once(struct guest *g)
{
	struct sigevent ev = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = kvm_kick_signal() };
	struct itimerspec t = { .it_value = { .tv_sec = TIMEOUT_NS / 1000000000, .tv_nsec = 1 } };
	timer_t timer;
	int r, code;

	ev._sigev_un._tid = (pid_t)syscall(SYS_gettid);
	if (kvm_kick_signal_install() < 0 || timer_create(CLOCK_MONOTONIC, &ev, &timer) < 0)
		return -1;
	timer_settime(timer, 0, &t, NULL);
	r = ioctl(g->cpu, KVM_RUN, 0);
	code = errno;
	timer_delete(timer);
	errno = code;
	return r;
}

static void describe(struct guest *g, int piece, char *why, size_t len)
{
	struct kvm_run *run = g->run;
	const char *name = probe_code[piece].name;
	struct kvm_regs r = { 0 };
	const uint8_t *insn;

	ioctl(g->cpu, KVM_GET_REGS, &r);
	if (run->exit_reason != KVM_EXIT_INTERNAL_ERROR || r.rip >= MEM_SIZE - 8) {
		snprintf(why, len, "KVM does not run %s properly (exit %u)", name, run->exit_reason);
		return;
	}
	insn = g->mem + r.rip;
	snprintf(why, len,
		 "KVM emulates %s and stops at an instruction its emulator lacks (bytes %02x %02x %02x %02x %02x)", name,
		 insn[0], insn[1], insn[2], insn[3], insn[4]);
}

/* Runs one piece; *ns its time.  False with the reason if it did not end as it should. */
static bool run_piece(struct guest *g, int piece, uint64_t *ns, char *why, size_t len)
{
	struct timespec a, b;
	int r;

	if (guest_set(g, piece) < 0) {
		snprintf(why, len, "KVM refuses the registers for %s (%s)", probe_code[piece].name, strerror(errno));
		return false;
	}
	clock_gettime(CLOCK_MONOTONIC, &a);
	r = run_once(g);
	clock_gettime(CLOCK_MONOTONIC, &b);
	*ns = (uint64_t)(b.tv_sec - a.tv_sec) * 1000000000u + (uint64_t)(b.tv_nsec - a.tv_nsec);
	if (r < 0) {
		snprintf(why, len, "KVM does not run %s: %s", probe_code[piece].name,
			 errno == EINTR ? "it did not come to an end in 2 seconds" : strerror(errno));
		return false;
	}
	if (g->run->exit_reason == KVM_EXIT_IO && g->run->io.port == PROBE_PORT &&
	    *((uint8_t *)g->run + g->run->io.data_offset) == PROBE_OK)
		return true;
	if (g->run->exit_reason == KVM_EXIT_IO)
		snprintf(why, len, "KVM runs %s wrongly: an instruction had a wrong result", probe_code[piece].name);
	else
		describe(g, piece, why, len);
	return false;
}

static void no_hardware(struct probe_report *r)
{
	if (!cpu_flag(" vmx") && !cpu_flag(" svm"))
		snprintf(r->cure, sizeof(r->cure),
			 "this host's KVM works without VT-x or AMD-V: use a host that has one of them, or nested virtualization");
}

/* The best times of kernel and user mode; stops early when they are alike. */
static bool is_slow(struct guest *g, uint64_t ns[PROBE_N])
{
	char ignored[256];
	uint64_t t;

	for (int i = 0; i < TRIES; i++) {
		uint64_t fast = MAX(probe_native_ns(), ns[PROBE_RING3]);

		if (ns[PROBE_RING0] <= fast * SLOW_FACTOR + SLOW_SLACK_NS)
			return false;
		if (run_piece(g, PROBE_RING0, &t, ignored, sizeof(ignored)))
			ns[PROBE_RING0] = MIN(ns[PROBE_RING0], t);
	}
	return true;
}

static void judge(struct guest *g, struct probe_report *r)
{
	uint64_t ns[PROBE_N] = { 0 };

	for (int i = 0; i < PROBE_N; i++) {
		if (run_piece(g, i, &ns[i], r->why, sizeof(r->why)))
			continue;
		no_hardware(r);		/* a kernel would stop at such an instruction: not usable */
		return;
	}
	r->usable = true;
	if (is_slow(g, ns)) {
		snprintf(r->why, sizeof(r->why), "KVM emulates kernel-mode code (%llu million instructions a second)",
			 (unsigned long long)(PROBE_LOOPS * 3000ull / ns[PROBE_RING0]));
		no_hardware(r);
		return;
	}
	r->good = true;
	snprintf(r->why, sizeof(r->why), "KVM runs real-mode, kernel and user code at full speed");
}

int kvm_probe(struct probe_report *r)
{
	struct guest g;
	int kvm;

	*r = (struct probe_report){ 0 };
	kvm = kvm_open(r->why, sizeof(r->why), r->cure, sizeof(r->cure));
	if (kvm < 0)
		return kvm;
	if (guest_open(&g, kvm) < 0)
		snprintf(r->why, sizeof(r->why), "KVM cannot create a virtual machine: %s", strerror(errno));
	else
		judge(&g, r);
	guest_close(&g);
	close(kvm);
	return 0;
}
