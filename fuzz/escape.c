/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Does the translator keep hostile code inside?  Random code runs as ring 0 or
 * ring 3, 64-bit or 32-bit, on the translating engine in this process, every
 * block translated at its first run, over pages that come in all kinds: read-only,
 * no-execute, absent, aliases of the code, the page tables, memory that is not
 * there, a device.
 *
 * After every run
 *  - no pattern around guest memory, in the heap or in static storage has changed,
 *    nor has what runs between blocks (the thunks); ASan watches the C side;
 *  - every entry of the TLBs points into guest memory, every entry of the jump
 *    caches into the code cache, and every pointer of the vCPU is what it was;
 *  - after ring 3: no frame that it may not write has changed, but for what
 *    exceptions write (the second wall of docs/THREATS.md).
 * While it runs, a host fault that translated code causes must be one of its
 * guest's operands; all others end the program.
 *
 * Input: 16 bytes of set-up, then a stream that a generator of instructions reads.
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <Zydis/Zydis.h>
#include <sanitizer/lsan_interface.h>

#include "../tests/insn/rig.h"
#include "base/bits.h"
#include "cpu/engine.h"
#include "cpu/translate/translate.h"
#include "cpu/x86/cpuid.h"
#include "machine/machine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

/* Guest-physical layout; the first 2 MiB are identity-mapped for the supervisor, and again at HIGH. */
#define RAM 0xa0000u
#define PML4 0x1000u
#define PDPT 0x2000u
#define PD0 0x3000u
#define PD1 0x4000u
#define PT 0x5000u
#define IDT 0x6000u
#define HANDLERS 0x8000u
#define SYSCALL_ENTRY 0x8200u
#define GDT 0xa000u
#define TSS 0xb000u
#define IST_TOP 0xe000u		/* two pages below */
#define CODE 0x80000u		/* two frames */
#define DATA 0x82000u		/* N_DATA frames */
#define N_DATA 8u
#define MMIO 0xfeb00000u
#define NOWHERE 0x40000000u

#define WIN RIG_CODE		/* linear: N_WIN pages */
#define N_WIN 32u
#define SEL_KCODE 0x08
#define SEL_KDATA 0x10
#define SEL_UDATA 0x1b
#define SEL_UCODE 0x23
#define SEL_TSS 0x28
#define SEL_UCODE32 0x3b
#define SEL_KCODE32 0x40

#define STOP_PORT 0xf4
#define MAX_EXCEPTIONS 60
#define POOL 4096u
#define GUARD 0x10000u
#define CODE_MAX 480u

static struct {
	struct machine *m;
	struct cpu_engine *e;
	struct xl_cpu *x;
	struct bus_region stop, dev;
	struct rig_case *pool[2];	/* 64 and 32 bits */
	uint8_t *fixed;			/* what is the same in every image */
	uint8_t *image;			/* of RAM before the run */
	uint8_t *now;
	bool writable[RAM / PAGE_4K];	/* by ring 3 */
	uint8_t *guard[2];		/* around RAM */
	uint8_t *heap;
	uint8_t *thunks;		/* copy */
	struct { void *m, *model, *codemap, *xe, *exec; } pointers;
	unsigned exceptions;
	_Atomic unsigned armed;		/* runs that the watchdog may stop */
	struct sigaction engine_segv;
} F;
static uint8_t pattern_data[GUARD];

static void require(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "escape: %s\n", what);
	abort();
}

/* --- what must not change --- */
static uint8_t pattern(size_t n) { return (uint8_t)(n * 167 + (n >> 8) * 31 + 0x5a); }

static uint8_t pattern_copy[GUARD];
static void fill(uint8_t *p)
{
	for (size_t n = 0; p && n < GUARD; n++)
		p[n] = pattern_copy[n] = pattern(n);
}

static bool filled(const uint8_t *p) { return !p || !memcmp(p, pattern_copy, GUARD); }

/* What lies beside RAM is ours, if nobody else's: written to find stray writes; the far page of each is out of bounds. */
static uint8_t *guard_at(uint8_t *at)
{
	void *p = mmap(at, GUARD, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	if (p != at) {
		munmap(p, GUARD);
		return NULL;
	}
	return p;
}

static void note_pointers(void)
{
	const struct x86_cpu *c = &F.x->ic.c;

	F.pointers.m = c->vcpu.m;
	F.pointers.model = (void *)c->model;
	F.pointers.codemap = c->codemap;
	F.pointers.xe = F.x->xe;
	F.pointers.exec = F.x->ic.exec;
}

static void check_pointers(void)
{
	const struct x86_cpu *c = &F.x->ic.c;

	require(F.pointers.m == c->vcpu.m && F.pointers.model == c->model && F.pointers.codemap == c->codemap &&
		F.pointers.xe == F.x->xe && F.pointers.exec == F.x->ic.exec, "a pointer of the vCPU has changed");
	require(c->tlb_now == c->tlb[c->acc], "the current TLB is not that of the access class");
}

static bool in_ram(uint64_t host)
{
	uint64_t ram = (uintptr_t)mem_ram_host(F.m->mem);

	return host >= ram && host < ram + RAM && !(host & 0xfff);
}

static void check_tlbs(void)
{
	const struct x86_cpu *c = &F.x->ic.c;

	for (unsigned a = 0; a < X86_N_ACC; a++)
		for (unsigned n = 0; n < X86_TLB_SIZE; n++)
			for (unsigned how = 0; how < 3; how++) {
				const struct x86_tlb_entry *e = &c->tlb[a][n];
				uint64_t tag = e->tag[how] ^ (how == X86_WRITE ? c->write_mask : 0);

				if ((tag & 0xfff) == c->tlb_gen && (tag >> 12 & (X86_TLB_SIZE - 1)) == n)
					require(in_ram((tag & ~0xfffull) + e->addend), "an entry of interp's TLB points elsewhere");
			}
	for (unsigned a = 0; a < XL_N_ACC; a++)
		for (unsigned n = 0; n < XL_TLB_SIZE; n++)
			for (unsigned how = 0; how < 2; how++) {
				const struct xl_tlb *t = &F.x->tlb[a];

				if ((t->tag[how][n] >> 12 & (XL_TLB_SIZE - 1)) == n && t->tag[how][n])
					require(in_ram(t->host[how][n]), "an entry of the translator's TLB points elsewhere");
			}
}

static bool in_code(const void *p)
{
	const struct xl_engine *xe = F.x->xe;

	return (const uint8_t *)p >= xe->rx && (const uint8_t *)p < xe->rx + xe->size;
}

static void check_code(void)
{
	const struct xl_engine *xe = F.x->xe;

	require(!memcmp(F.thunks, xe->rx, xe->start), "the thunks have changed");
	for (unsigned a = 0; a < XL_N_ACC; a++)
		for (unsigned n = 0; n < XL_JC_SIZE; n++)
			if (F.x->jc[a].rip[n] && xl_jc_index(F.x->jc[a].rip[n]) == n && F.x->jc[a].code[n])
				require(in_code(F.x->jc[a].code[n]), "an entry of a jump cache points elsewhere");
}

/* Ring 3 may have written its own frames; exceptions have written A and D bits, the TSS's and GDT's, the stack. */
static void check_frames(void)
{
	for (unsigned f = 0; f < RAM / PAGE_4K; f++) {
		unsigned at = f * PAGE_4K;

		if (F.writable[f] || (at >= PML4 && at <= PT) || (at >= HANDLERS && at < IST_TOP))
			continue;
		if (memcmp(F.now + at, F.image + at, PAGE_4K)) {
			fprintf(stderr, "escape: ring 3 has changed frame %#x, which it may not write\n", at);
			abort();
		}
	}
}

/* No mapping may be writable and executable at once. */
static void check_maps(void)
{
	char line[512];
	FILE *f = fopen("/proc/self/maps", "r");

	while (f && fgets(line, sizeof(line), f)) {
		char *perm = strchr(line, ' ');

		require(!perm || perm[2] != 'w' || perm[3] != 'x', "something is writable and executable");
	}
	if (f)
		fclose(f);
}

/* --- host faults --- */
static uint64_t reg_of(const greg_t *g, ZydisRegister r)
{
	static const int map[16] = { REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
				     REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15 };

	return r >= ZYDIS_REGISTER_RAX && r <= ZYDIS_REGISTER_R15 ? (uint64_t)g[map[r - ZYDIS_REGISTER_RAX]] : 0;
}

/* Translated code faults only where an operand in guest memory (or its copy in the vCPU) is not as the
 * instruction wants it. */
static void on_segv(int sig, siginfo_t *si, void *ctx)
{
	const greg_t *g = ((ucontext_t *)ctx)->uc_mcontext.gregs;
	ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
	ZydisDecodedInstruction z;
	ZydisDecoder d;

	if (in_code((void *)(uintptr_t)g[REG_RIP])) {
		uint64_t ram = (uintptr_t)mem_ram_host(F.m->mem);
		bool found = false;

		ZydisDecoderInit(&d, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
		if (ZYAN_SUCCESS(ZydisDecoderDecodeFull(&d, (void *)(uintptr_t)g[REG_RIP], 15, &z, ops)))
			for (unsigned n = 0; n < z.operand_count; n++) {
				uint64_t ea;

				if (ops[n].type != ZYDIS_OPERAND_TYPE_MEMORY)
					continue;
				ea = reg_of(g, ops[n].mem.base) + reg_of(g, ops[n].mem.index) * ops[n].mem.scale +
				     (uint64_t)ops[n].mem.disp.value;
				found |= (ea >= ram && ea < ram + RAM) ||
					 (ea >= (uintptr_t)F.x && ea < (uintptr_t)F.x + sizeof(*F.x));
			}
		if (!found || (sig == SIGSEGV && si->si_code != SI_KERNEL)) {
			fprintf(stderr, "escape: signal %d, code %d, at %#llx in translated code, address %p, R10 %#llx\n", sig,
				si->si_code, (unsigned long long)g[REG_RIP], si->si_addr, (unsigned long long)g[REG_R10]);
			abort();
		}
	}
	F.engine_segv.sa_sigaction(sig, si, ctx);
}

/* --- the machine --- */
static void put64(uint64_t at, uint64_t v) { st_le64(F.fixed + at, v); }

/* Counts, goes on at the next 16 bytes of the code. RSP is the stack of the IST. */
static void make_handlers(void)
{
	static const uint8_t body[] = {
		0xe6, STOP_PORT,				/* out port, al */
		0x50,						/* push rax */
		0x8b, 0x04, 0x25, 0xf0, 0x9f, 0, 0,		/* mov eax, [HANDLERS + 0x1ff0] */
		0x83, 0xc0, 0x10,				/* add eax, 16 */
		0x25, 0xf0, 0x0f, 0, 0,				/* and eax, 0xff0 */
		0x89, 0x04, 0x25, 0xf0, 0x9f, 0, 0,		/* mov [...], eax */
		0x05, 0, 0, 0, 0x40,				/* add eax, WIN */
		0x48, 0x89, 0x44, 0x24, 0x08,			/* mov [rsp + 8], rax */
		0x58, 0x48, 0xcf,				/* pop rax; iretq */
	};

	for (unsigned v = 0; v < 256; v++) {
		bool has_error = v == 8 || (v >= 10 && v <= 14) || v == 17;
		uint64_t at = HANDLERS + (has_error ? 64 : 0);

		put64(IDT + 16 * v, (at & 0xffff) | (uint64_t)SEL_KCODE << 16 | 0xee01ull << 32 | (at >> 16) << 48);
	}
	memcpy(F.fixed + HANDLERS, body, sizeof(body));
	memcpy(F.fixed + HANDLERS + 64, "\x48\x83\xc4\x08", 4);	/* add rsp, 8 */
	memcpy(F.fixed + HANDLERS + 68, body, sizeof(body));
	memcpy(F.fixed + SYSCALL_ENTRY, "\xe6\xf4\x48\x0f\x07", 5);	/* out port, al; sysretq: no use of the caller's stack */
}

static void make_fixed(void)
{
	static const uint64_t gdt[] = { 0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x00cff3000000ffff, 0x00affb000000ffff,
					0x00008b00b0000067, 0, 0x00cffb000000ffff, 0x00cf9b000000ffff };

	for (size_t n = 0; n < RAM; n++)
		F.fixed[n] = pattern(n);
	memset(F.fixed, 0, CODE);
	put64(PML4, PDPT | 7);
	put64(PML4 + 8 * 256, PDPT | 7);
	put64(PDPT, PD0 | 7);
	put64(PDPT + 8, PD1 | 7);
	put64(PD0, 0x83);
	put64(PD1, PT | 7);
	make_handlers();
	memcpy(F.fixed + GDT, gdt, sizeof(gdt));
	put64(TSS + 4, IST_TOP);
	put64(TSS + 36, IST_TOP);
	st_le16(F.fixed + TSS + 102, 104);
}

static uint32_t rnd_state;
static uint32_t rnd(void)
{
	rnd_state = rnd_state * 1664525 + 1013904223;
	return rnd_state >> 8;
}

/* The pages of the window, of all kinds. */
static void make_window(bool user)
{
	memset(F.writable, 0, sizeof(F.writable));
	for (unsigned n = 0; n < N_WIN; n++) {
		uint32_t r = rnd();
		uint64_t gpa, flags = (r & 7 ? 1 : 0) | (r & 0x30 ? 2 : 0) | (r & 0xc0 ? 4 : 0) | (r >> 8 & 0x60) |
				      (r & 0x700 ? 0 : 0x100);

		switch (rnd() % 20) {
		case 0: gpa = CODE; break;
		case 1: gpa = MMIO; break;
		case 2: gpa = NOWHERE; break;
		case 3: gpa = RAM - PAGE_4K; break;
		case 4: gpa = PT; flags &= ~4ull; break;
		case 5: gpa = RAM; break;
		case 6: gpa = GDT; flags &= ~4ull; break;
		default: gpa = DATA + (r >> 16) % N_DATA * PAGE_4K; break;
		}
		if (n < 2) {
			gpa = CODE + n * PAGE_4K;
			flags |= 1 | (user ? 4 : 0);
		}
		st_le64(F.image + PT + 8 * n, gpa | flags | (n > 1 && !(r & 0x1000) ? 1ull << 63 : 0));
		if ((flags & 7) == 7 && gpa < RAM)
			F.writable[gpa / PAGE_4K] = true;
	}
}

static uint64_t dev_read(void *opaque, uint64_t off, unsigned len) { return off * 0x0101010101010101ull; }
static void dev_write(void *opaque, uint64_t off, unsigned len, uint64_t val) { }
static void stop_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
	if (++F.exceptions > MAX_EXCEPTIONS)
		vcpu_raise(F.m->vcpus[0], VCPU_EV_STOP);
}

static const struct bus_ops stop_ops = { .write = stop_write, .max_len = 4, .unlocked = true };
static const struct bus_ops dev_ops = { .read = dev_read, .write = dev_write, .unaligned = true };

/* Loops without exceptions and halts end, too. */
static void *watchdog(void *arg)
{
	unsigned seen = 0;

	for (;;) {
		unsigned a = F.armed;

		usleep(400);
		if ((a & 1) && a == F.armed && a == seen)
			vcpu_raise(F.m->vcpus[0], VCPU_EV_STOP);
		seen = a;
	}
	return NULL;
}

static void make_pool(void)
{
	for (unsigned b = 0; b < 2; b++) {
		uint64_t seed = 1;

		F.pool[b] = calloc(POOL, sizeof(struct rig_case));
		require(F.pool[b], "no memory");
		for (unsigned n = 0; n < POOL; seed++)
			n += rig_generate(seed, b ? 32 : 64, &F.pool[b][n]);
	}
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct cpu_engine_config cfg = { .n_vcpus = 1, .heat = 1 };
	const struct cpu_engine_ops *ops = &cpu_engine_translate;
	struct sigaction sa = { .sa_sigaction = on_segv, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER };
	struct err err = { 0 };
	uint8_t *ram;
	pthread_t t;

	F.fixed = malloc(RAM);
	F.image = malloc(RAM);
	F.now = malloc(RAM);
	F.heap = malloc(GUARD);
	require(F.fixed && F.image && F.now && F.heap, "no memory");
	require(machine_new(&F.m, true) == 0 && mem_create_ram(F.m->mem, RAM, MEM_HUGE_NONE, &err) == 0 &&
		mem_add_ram(F.m->mem, "ram", 0, 0, RAM, &err) == 0, "no machine");
	require(ops->init(F.m, &cfg, &F.e, &err) == 0 && ops->vcpu_create(F.e, 0, &err) == 0, "no engine");
	F.x = (struct xl_cpu *)F.m->vcpus[0];
	__lsan_register_root_region(F.x, sizeof(*F.x));	/* mapped, not allocated: what it points to is no leak */
	if (ops->vcpu_thread_init)
		ops->vcpu_thread_init(F.m->vcpus[0]);
	F.stop = (struct bus_region){ .name = "stop", .ops = &stop_ops, .base = STOP_PORT, .size = 1, .priority = 1 };
	F.dev = (struct bus_region){ .name = "dev", .ops = &dev_ops, .base = MMIO, .size = PAGE_4K, .priority = 1 };
	require(bus_add(F.m->pio, &F.stop) == 0 && bus_add(F.m->mmio, &F.dev) == 0, "no device");
	ram = mem_ram_host(F.m->mem);
	F.guard[0] = guard_at(ram - GUARD);
	F.guard[1] = guard_at(ram + RAM);
	fill(F.guard[0]);
	fill(F.guard[1]);
	fill(F.heap);
	fill(pattern_data);
	make_pool();
	make_fixed();
	F.thunks = malloc(F.x->xe->start);
	require(F.thunks, "no memory");
	memcpy(F.thunks, F.x->xe->rx, F.x->xe->start);
	note_pointers();
	sigemptyset(&sa.sa_mask);
	sigaction(SIGSEGV, &sa, &F.engine_segv);
	require(pthread_create(&t, NULL, watchdog, NULL) == 0, "no thread");
	check_maps();
	return 0;
}

/* --- code from the input --- */
struct in {
	const uint8_t *p, *end;
	uint8_t *out;
	unsigned n;
	bool b32;
};

static uint8_t u8(struct in *i) { return i->p < i->end ? *i->p++ : 0; }
static unsigned u16(struct in *i) { return u8(i) | (unsigned)u8(i) << 8; }

static void put(struct in *i, const void *p, unsigned n)
{
	if (i->n + n <= CODE_MAX) {
		memcpy(i->out + i->n, p, n);
		i->n += n;
	}
}
#define OUT(...) put(i, (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))

/* An address near the edges of the window's pages, or of the identity map. */
static uint64_t address(struct in *i)
{
	static const uint16_t off[] = { 0, 8, 0x7f8, 0xfc0, 0xff0, 0xff8, 0xffc, 0xffe, 0xfff };
	unsigned a = u16(i), o = off[u8(i) % ARRAY_LEN(off)];

	if ((a & 0xf) == 0xf)
		return (uint64_t)(a >> 4 & 0xff) << 12 | o;
	if ((a & 0xf) == 0xe && !i->b32)
		return 0xffff800000000000ull | WIN | (a >> 4) % N_WIN << 12 | o;
	if ((a & 0xf) == 0xd)
		return 0x7ffffffffffff000ull | o;	/* not canonical; 32 bits: the end of the space */
	return WIN | (a >> 4) % N_WIN << 12 | o;
}

static void load_register(struct in *i, unsigned reg)
{
	uint64_t v = address(i);

	if (i->b32) {
		OUT((uint8_t)(0xb8 | (reg & 7)));
		put(i, &v, 4);
	} else {
		OUT((uint8_t)(0x48 | reg >> 3), (uint8_t)(0xb8 | (reg & 7)));
		put(i, &v, 8);
	}
}

static void system_insn(struct in *i)
{
	static const char *const insns[] = {
		"\x0f\x22\xd8", "\x0f\x20\xd8", "\x0f\x22\xc0", "\x0f\x20\xc0", "\x0f\x20\xe0", "\x0f\x22\xe0",	/* CR3, CR0, CR4 */
		"\x0f\x01\x38", "\x0f\x01\x3e", "\x0f\x01\x10", "\x0f\x01\x18", "\x0f\x30", "\x0f\x32",	/* INVLPG LGDT LIDT MSRs */
		"\x0f\x05", "\x0f\x07", "\x48\x0f\x07", "\x0f\x01\xf8", "\x0f\xa2", "\x0f\x31", "\xf4", "\xfa", "\xfb",
		"\x9c", "\x9d", "\xcf", "\x48\xcf", "\xcb", "\x48\xcb", "\xcc", "\xcd\x80", "\xcd\x03", "\x0f\x01\xcb", "\x0f\x01\xca",
		"\x8e\xd0", "\x8e\xd8", "\x8e\xe0", "\x0f\x00\xd8", "\x0f\x00\xd0", "\x0f\xae\x08", "\x0f\xae\x00", "\x0f\xc7\x0e",
		"\x0f\x23\xf8", "\x0f\x23\xc0", "\xf3\xa4", "\xf3\x48\xab", "\xf3\xaa", "\x0f\x01\xd1", "\xff\x2e", "\xff\x1e",
		"\xf3\x0f\xae\xd0", "\xf3\x0f\xae\xd8", "\x0f\x09", "\x0f\x06",
	};
	const char *s = insns[u8(i) % ARRAY_LEN(insns)];

	put(i, s, (unsigned)strlen(s));
}

static void one(struct in *i)
{
	unsigned k = u8(i), reg;

	if (k < 0x70) {
		const struct rig_case *c = &F.pool[i->b32][u16(i) % POOL];

		put(i, c->code, c->len);
		return;
	}
	switch (k & 15) {
	case 0: case 1: case 2: load_register(i, u8(i) & (i->b32 ? 7 : 15)); break;
	case 3: load_register(i, X86_RSP); break;
	case 4: OUT((uint8_t)(0x70 | (u8(i) & 15)), (uint8_t)(u8(i) & 31)); break;	/* jcc forward */
	case 5: OUT(0xff, 0xc9, 0x75, (uint8_t)(0xfc - (u8(i) & 63))); break;	/* dec ecx; jnz back */
	case 6: OUT(0xb9, (uint8_t)(u8(i) & 31), 0, 0, 0); break;		/* mov ecx, n */
	case 7: OUT((uint8_t)(0x50 | (u8(i) & 15))); break;			/* push, pop */
	case 8: OUT(0xe8, (uint8_t)u8(i), 0, 0, 0); break;			/* call forward */
	case 9: OUT(0xc3); break;
	case 10: reg = u8(i) & 7; OUT(0xff, (uint8_t)(0x10 | reg)); break;	/* call [reg] */
	case 11: reg = u8(i) & 7; OUT(0xff, (uint8_t)(0xe0 | reg)); break;	/* jmp reg */
	case 12: {								/* mov byte [code], imm */
		uint32_t to = (uint32_t)WIN + (u16(i) & 0x1fff);

		OUT(0xc6, 0x04, 0x25);
		put(i, &to, 4);
		OUT(u8(i));
		break;
	}
	case 13: {
		uint8_t raw[8];
		unsigned n = 1 + (u8(i) & 7);

		for (unsigned b = 0; b < n; b++)
			raw[b] = u8(i);
		put(i, raw, n);
		break;
	}
	default: system_insn(i); break;
	}
}

/* --- a run --- */
static void restore(void)
{
	memcpy(F.now, mem_ram_host(F.m->mem), RAM);
	for (unsigned at = 0; at < RAM; at += PAGE_4K)
		if (memcmp(F.now + at, F.image + at, PAGE_4K))
			mem_write(F.m->mem, at, F.image + at, PAGE_4K);
}

static struct x86_seg seg(uint16_t sel, uint32_t attr) { return (struct x86_seg){ .sel = sel, .limit = 0xffffffff, .attr = attr }; }

static void start_state(struct x86_state *s, const uint8_t *set, bool b32, bool user)
{
	const struct rig_case *c = &F.pool[b32][(set[4] | (unsigned)set[5] << 8) % POOL];

	x86_state_reset(s, 0, 0);
	s->cr0 = X86_CR0_PE | X86_CR0_PG | X86_CR0_NE | X86_CR0_MP | X86_CR0_ET | X86_CR0_AM | (user || set[6] & 1 ? X86_CR0_WP : 0);
	s->cr3 = PML4;
	s->cr4 = X86_CR4_PAE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT | X86_CR4_OSXSAVE | (set[6] & 2 ? X86_CR4_PGE : 0) |
		 (set[6] & 4 ? X86_CR4_SMAP : 0) | (set[6] & 8 ? X86_CR4_FSGSBASE : 0);
	s->efer = X86_EFER_SCE | X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE;
	s->xcr0 = F.x->ic.c.model->xcr0_mask & 0xe7;
	for (unsigned n = 0; n < X86_NSEG; n++)
		s->seg[n] = user ? seg(SEL_UDATA, 0xc0f3) : seg(SEL_KDATA, 0xc093);
	if (b32)
		s->seg[X86_CS] = user ? seg(SEL_UCODE32, 0xc0fb) : seg(SEL_KCODE32, 0xc09b);
	else
		s->seg[X86_CS] = user ? seg(SEL_UCODE, 0xa0fb) : seg(SEL_KCODE, 0xa09b);
	s->seg[X86_TR] = (struct x86_seg){ .sel = SEL_TSS, .limit = 0x67, .attr = 0x8b, .base = TSS };
	s->seg[X86_LDTR] = (struct x86_seg){ .attr = X86_AR_UNUSABLE | 0x82 };
	s->gdtr = (struct x86_dtable){ .base = GDT, .limit = 71 };
	s->idtr = (struct x86_dtable){ .base = IDT, .limit = 0xfff };
	s->star = (uint64_t)SEL_KCODE << 32 | (uint64_t)0x10 << 48;
	s->lstar = s->cstar = SYSCALL_ENTRY;
	s->activity = X86_ACTIVE;
	memcpy(s->gpr, c->gpr, sizeof(s->gpr));
	s->rflags = (c->rflags & ~(uint64_t)(X86_FL_TF | 0x3000)) | X86_FL_FIXED | (set[6] & 0x10 ? X86_FL_IF : 0);
	s->fpu = c->fpu;
}

static void run(const struct x86_state *start)
{
	const struct cpu_engine_ops *ops = &cpu_engine_translate;

	restore();
	F.exceptions = 0;
	ops->state_set(F.m->vcpus[0], start);
	F.armed++;
	ops->vcpu_run(F.m->vcpus[0]);
	F.armed++;
	check_pointers();
	check_tlbs();
	check_code();
	require(filled(F.guard[0]) && filled(F.guard[1]), "memory beside the guest's has changed");
	require(filled(F.heap) && filled(pattern_data), "the VMM's memory has changed");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct x86_state s;
	struct in i = { .p = data + 16, .end = data + size };
	bool user;

	if (size < 20)
		return 0;
	i.b32 = data[0] & 1;
	user = data[0] & 2;
	rnd_state = ld_le32(data + 8);
	memcpy(F.image, F.fixed, RAM);
	make_window(user);
	i.out = F.image + CODE + (data[0] & 4 ? PAGE_4K - 24 : 0);
	while (i.p < i.end && i.n < CODE_MAX - 16)
		one(&i);
	start_state(&s, data, i.b32, user);
	s.rip = WIN + (data[0] & 4 ? PAGE_4K - 24 : 0);
	for (unsigned n = 0; n < 2; n++) {
		run(&s);
		if (user) {
			memcpy(F.now, mem_ram_host(F.m->mem), RAM);
			check_frames();
		}
	}
	return 0;
}
