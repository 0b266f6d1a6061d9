/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Exec stubs: the cache, the enable checks, and running a stub on guest memory.
 *
 * The code area is one memfd mapped twice, writable here and executable there;
 * each stub has its place there, as its record has in the pool.  Stubs are keyed by
 * the rewritten instruction, so all addressing forms of one operation share a stub;
 * C implementations are keyed by the instruction's bytes less its displacement.
 * Finding that out takes decoding it twice, so answers are remembered.
 */
#include "cpu/interp/exec.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cpu/interp/exec_priv.h"
#include "cpu/x86/cpuid.h"

#define MAX_STUBS 16384u
#define CODE_SIZE (MAX_STUBS * EXEC_STUB_MAX)
#define HASH_SIZE 4096u
#define SEEN_BITS 10

_Static_assert(MAX_STUBS * sizeof(struct exec) < 1u << 31, "a uop names a stub by its distance");

struct exec_cache {
	pthread_mutex_t lock;
	const struct x86_cpu_model *model;
	struct exec_host host;
	int fd;
	uint8_t *rw;
	uint8_t *rx;
	uint32_t n;			/* stubs ever made */
	_Atomic uint32_t room;		/* that can still be made */
	struct exec *free;		/* forgotten ones */
	struct exec *pool;		/* MAX_STUBS, touched as they are used */
	struct exec *hash[HASH_SIZE];
	/* Answers given lately, by the guest's instruction less its displacement. */
	struct {
		uint8_t key[16];
		struct exec *e;		/* NULL: empty */
	} seen[1u << SEEN_BITS];
};

static void cache_unmap(struct exec_cache *x)
{
	if (x->pool)
		munmap(x->pool, MAX_STUBS * sizeof(*x->pool));
	if (x->rx)
		munmap(x->rx, CODE_SIZE);
	if (x->rw)
		munmap(x->rw, CODE_SIZE);
	if (x->fd >= 0)
		close(x->fd);
}

static int map(void **p, size_t size, int prot, int flags, int fd)
{
	void *m = mmap(NULL, size, prot, flags, fd, 0);

	if (m == MAP_FAILED)
		return -errno;
	*p = m;
	return 0;
}

static int cache_map(struct exec_cache *x)
{
	int r;

	x->fd = memfd_create("exec-stubs", MFD_CLOEXEC);
	if (x->fd < 0)
		return -errno;
	if (ftruncate(x->fd, CODE_SIZE) < 0)
		return -errno;
	r = map((void **)&x->rw, CODE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, x->fd);
	if (r)
		return r;
	r = map((void **)&x->rx, CODE_SIZE, PROT_READ | PROT_EXEC, MAP_SHARED, x->fd);
	if (r)
		return r;
	return map((void **)&x->pool, MAX_STUBS * sizeof(*x->pool), PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
}

struct exec_cache *exec_cache_new(int *err)
{
	struct exec_cache *x = calloc(1, sizeof(*x));

	*err = -ENOMEM;
	if (!x)
		return NULL;
	x->fd = -1;
	*err = cache_map(x);
	if (*err) {
		cache_unmap(x);
		free(x);
		return NULL;
	}
	x->room = MAX_STUBS;
	pthread_mutex_init(&x->lock, NULL);
	exec_host_probe(&x->host);
	return x;
}

const void *exec_cache_pool(const struct exec_cache *x) { return x->pool; }

void exec_cache_set_model(struct exec_cache *x, const struct x86_cpu_model *m) { x->model = m; }

void exec_cache_free(struct exec_cache *x)
{
	if (!x)
		return;
	pthread_mutex_destroy(&x->lock);
	cache_unmap(x);
	free(x);
}

bool exec_cache_full(const struct exec_cache *x)
{
	return atomic_load_explicit(&x->room, memory_order_relaxed) < EXEC_ROOM;
}

void exec_cache_reset(struct exec_cache *x)
{
	pthread_mutex_lock(&x->lock);
	memset(x->hash, 0, sizeof(x->hash));
	memset(x->seen, 0, sizeof(x->seen));
	x->free = NULL;
	x->n = 0;
	x->room = MAX_STUBS;
	pthread_mutex_unlock(&x->lock);
}

static struct exec *give_back(struct exec_cache *x, struct exec *e)
{
	e->next = x->free;
	x->free = e;
	x->room++;
	return NULL;
}

void exec_cache_forget(struct exec_cache *x, uint32_t before)
{
	pthread_mutex_lock(&x->lock);
	memset(x->seen, 0, sizeof(x->seen));
	for (unsigned h = 0; h < HASH_SIZE; h++) {
		struct exec **link = &x->hash[h], *e;

		while ((e = *link) != NULL) {
			if (e->kept >= before) {
				link = &e->next;
				continue;
			}
			*link = e->next;
			give_back(x, e);
		}
	}
	pthread_mutex_unlock(&x->lock);
}

void exec_cache_keep(struct exec_cache *x, uint32_t at, uint32_t time)
{
	struct exec *e = (struct exec *)((char *)x->pool + at);

	e->kept = MAX(e->kept, time);
}

/* --- which instructions --- */
#define M(n) ZYDIS_MNEMONIC_##n

static bool int_handled(uint16_t m)
{
	switch (m) {
	case M(ADCX): case M(ADOX): case M(ANDN): case M(BEXTR): case M(BLSI): case M(BLSMSK): case M(BLSR):
	case M(BZHI): case M(CRC32): case M(LZCNT): case M(MOVBE): case M(MULX): case M(PDEP): case M(PEXT):
	case M(POPCNT): case M(RDPID): case M(RDRAND): case M(RDSEED): case M(RORX): case M(SARX):
	case M(SHLX): case M(SHRX): case M(TZCNT): case M(MOVDIRI): case M(MOVNTI): case M(FXSAVE):
	case M(FXSAVE64): case M(FXRSTOR): case M(FXRSTOR64): return true;
	default: return false;
	}
}

static bool not_handled(uint16_t m)
{
	switch (m) {
	case M(PREFETCH): case M(PREFETCHNTA): case M(PREFETCHT0): case M(PREFETCHT1): case M(PREFETCHT2):
	case M(PREFETCHW): case M(PREFETCHWT1): case M(CLFLUSH): case M(CLFLUSHOPT): case M(CLWB):
	case M(LFENCE): case M(MFENCE): case M(SFENCE): case M(PAUSE): case M(XGETBV): case M(XSETBV): return true;
	default: return false;
	}
}

bool exec_handles(const struct insn *i)
{
	if (int_handled(i->mnemonic))
		return true;
	if (not_handled(i->mnemonic))
		return false;
	switch (i->isa) {
	case INSN_ISA_X87: case INSN_ISA_MMX: case INSN_ISA_SSE: case INSN_ISA_AVX:
	case INSN_ISA_AVX512: case INSN_ISA_XSAVE: return true;
	default: return i->encoding != INSN_LEGACY;
	}
}

/* --- making --- */
/* CR0, CR4 and XCR0 as they must be (SDM vol. 2, 2.4 to 2.8; vol. 3, 2.5). */
static void enables(struct exec *x)
{
	switch (x->o.state) {
	case OP_STATE_X87:
		x->cr0_bad = X86_CR0_EM | X86_CR0_TS;
		break;
	case OP_STATE_MMX:
		x->cr0_bad = X86_CR0_EM | X86_CR0_TS;
		break;
	case OP_STATE_SSE:
		x->cr0_bad = X86_CR0_EM | X86_CR0_TS;
		x->cr4_need = X86_CR4_OSFXSR;
		break;
	case OP_STATE_AVX:
		x->cr0_bad = X86_CR0_TS;
		x->cr4_need = X86_CR4_OSXSAVE;
		x->xcr0_need = 0x6;
		break;
	case OP_STATE_AVX512:
		x->cr0_bad = X86_CR0_TS;
		x->cr4_need = X86_CR4_OSXSAVE;
		x->xcr0_need = 0xe6;
		break;
	default: break;
	}
}

static exec_fn *c_implementation(const struct insn *i)
{
	exec_fn *f = exec_c_vec(i);

	if (!f)
		f = exec_c_x87(i);
	return f ? f : exec_c_ctx(i);
}

/* Where the operand ends, and what of it is accessed first. */
static void extent(struct exec *x, const struct insn *i)
{
	bool small = exec_x87_small_env(i);

	if (x->mem_size)
		x->last_byte = (uint16_t)(x->mem_size - 1);
	switch (i->mnemonic) {
	case M(FNSTENV): case M(FLDENV): break;
	case M(FNSAVE): case M(FRSTOR): x->last_byte = small ? 93 : 107; break;
	case M(FXSAVE): case M(FXSAVE64): case M(FXRSTOR): case M(FXRSTOR64):
		if (i->ssz == 8)
			x->last_byte = 511;
		return;
	default:
		if (x->o.state == OP_STATE_X87 && x->mem_size == 10)
			x->piece = 8;
		return;
	}
	x->piece = small ? 2 : 4;
}

static void describe(struct exec *x, const struct insn *i, const struct op_info *o)
{
	x->i = *i;
	x->o = *o;
	x->flags_written = i->flags_written & X86_FL_ARITH;
	if (x->flags_written && o->state != OP_STATE_INT)
		x->flags_written = X86_FL_ARITH;	/* compares and tests clear the others */
	x->flags_read = i->flags_read & X86_FL_ARITH;
	x->vex = o->vex;
	x->mem_read = i->has_mem && i->mem_read;
	x->mem_write = i->has_mem && i->mem_write;
	x->mem_size = o->mem_size;
	extent(x, i);
	x->align = o->align > 1 ? (uint8_t)(o->align - 1) : 0;
	enables(x);
	if (o->state == OP_STATE_X87) {
		x->x87 = EXEC_X87_STUB;
		x->waits = exec_x87_waits(i);
		if (i->mnemonic == M(FWAIT))
			x->cr0_bad = 0;		/* its own rule */
		x->fop = (uint16_t)((i->opcode & 7) << 8 | (i->mod << 6 | i->reg << 3 | i->rm));
	} else if (o->mm_read || o->state == OP_STATE_MMX) {
		x->x87 = EXEC_X87_MMX;
		x->waits = true;
	}
}

static uint32_t hash_key(const uint8_t key[24])
{
	uint64_t h = ld_le64(key) * 0x9e3779b97f4a7c15ull;

	h ^= ld_le64(key + 8) * 0xc2b2ae3d27d4eb4full;
	h ^= ld_le64(key + 16) * 0x165667b19e3779f9ull;
	return (uint32_t)((h >> 40) % HASH_SIZE);
}

static void less_displacement(uint8_t *key, const struct insn *i)
{
	memcpy(key, i->bytes, i->len);
	if (i->disp_size && i->disp_off + i->disp_size <= i->len)
		memset(key + i->disp_off, 0, i->disp_size);
}

static void make_key(uint8_t key[24], const struct insn *i, const struct rewrite *r, bool stub)
{
	memset(key, 0, 24);
	if (stub) {
		memcpy(key, r->bytes, r->len);
		if (i->map == 0 && (i->opcode & 0xf8) == 0xd8)	/* FOP shows how the operand was named */
			key[20] = (uint8_t)(i->mod << 6 | i->reg << 3 | i->rm);
		key[21] = i->has_mem ? i->mem_seg : 0;	/* decides #SS or #GP */
		key[22] = r->rsp_as;
		key[23] = 1;
		return;
	}
	less_displacement(key, i);
	key[22] = i->ssz;
}

static struct exec *find(struct exec_cache *x, uint32_t h, const uint8_t key[24])
{
	for (struct exec *e = x->hash[h]; e; e = e->next)
		if (!memcmp(e->key, key, 24))
			return e;
	return NULL;
}

/* Does the model have all it takes?  NULL: a model that has everything. */
static bool features_ok(const struct x86_cpu_model *m, const struct op_info *o)
{
	for (unsigned n = 0; n < o->n_features; n++)
		if (m && !x86_has(m, o->feature[n].word, o->feature[n].bit))
			return false;
	return true;
}

static exec_fn run_reg;

static int make_stub(struct exec_cache *x, struct exec *e, const struct rewrite *r)
{
	size_t at = (size_t)(e - x->pool) * EXEC_STUB_MAX;
	int n = exec_emit(e, &x->host, r, x->rw + at, (uintptr_t)(x->rx + at));

	if (n < 0)
		return n;
	if (!e->i.has_mem)
		e->run = run_reg;
	else
		e->run = e->o.mask != OP_MASK_NONE ? exec_run_masked : exec_run_mem;
	return 0;
}

/*
 * Without the feature LZCNT is BSR and TZCNT is BSF (compilers count on the
 * latter): the F3 prefix then means nothing.
 */
static const struct insn *without_f3(const struct exec_cache *x, const struct insn *i, struct insn *plain)
{
	uint8_t b[INSN_MAX_LEN];
	unsigned n = 0;
	bool has;

	if (!x->model || (i->mnemonic != M(LZCNT) && i->mnemonic != M(TZCNT)))
		return i;
	has = i->mnemonic == M(LZCNT) ? x86_has(x->model, X86_F_81_ECX, BIT(5)) : x86_has(x->model, X86_F_7_EBX, BIT(3));
	if (has)
		return i;
	for (unsigned k = 0; k < i->len; k++)
		if (k >= i->opcode_off || i->bytes[k] != 0xf3)
			b[n++] = i->bytes[k];
	return insn_decode(plain, b, n, i->ssz * 8u) < 0 ? i : plain;
}

static struct exec *take(struct exec_cache *x)
{
	struct exec *e = x->free;

	if (e)
		x->free = e->next;
	else if (x->n < MAX_STUBS)
		e = &x->pool[x->n++];
	else
		return NULL;
	memset(e, 0, sizeof(*e));
	x->room--;
	return e;
}

static struct exec *get_locked(struct exec_cache *x, const struct insn *given)
{
	struct insn plain;
	const struct insn *i = without_f3(x, given, &plain);
	exec_fn *c_fn = c_implementation(i);
	struct rewrite r = { 0 };
	struct op_info o;
	uint8_t key[24];
	struct exec *e;
	uint32_t h;

	if (op_info_get(i, &o) < 0 || !o.known || (!c_fn && (o.state == OP_STATE_OTHER || o.rsp_fixed)))
		return NULL;
	if (!features_ok(x->model, &o))
		return NULL;
	if (!c_fn) {
		exec_pick_regs(&o, &r);
		if (insn_rewrite(i, &o, &r) < 0)
			return NULL;
	}
	make_key(key, i, &r, !c_fn);
	h = hash_key(key);
	e = find(x, h, key);
	if (e)
		return e;
	e = take(x);
	if (!e)
		return NULL;
	describe(e, i, &o);
	memcpy(e->key, key, sizeof(key));
	if (c_fn)
		e->run = c_fn;
	else if (make_stub(x, e, &r) < 0)
		return give_back(x, e);
	e->image = e->x87 != EXEC_X87_NONE || exec_c_ctx(i);
	e->own_address = i->has_mem && !i->mem_vsib && e->run != exec_run_masked;
	e->features_ok = x->model;
	e->simple = e->run == run_reg && e->x87 == EXEC_X87_NONE;
	e->next = x->hash[h];
	x->hash[h] = e;
	return e;
}

struct exec *exec_get(struct exec_cache *x, const struct insn *i)
{
	uint8_t key[16] = { 0 };
	struct exec *e;
	uint32_t h;

	less_displacement(key, i);
	key[15] = i->ssz;
	h = (uint32_t)((ld_le64(key) ^ ld_le64(key + 8) * 0xc2b2ae3d27d4eb4full) * 0x9e3779b97f4a7c15ull >> (64 - SEEN_BITS));
	pthread_mutex_lock(&x->lock);
	e = x->seen[h].e;
	if (!e || memcmp(x->seen[h].key, key, sizeof(key)) != 0) {
		e = get_locked(x, i);
		memcpy(x->seen[h].key, key, sizeof(key));
		x->seen[h].e = e;
	}
	pthread_mutex_unlock(&x->lock);
	return e;
}

/* --- enable checks --- */
/* Something is off: which exception comes first?  None if it was only that the
 * x87 image was elsewhere. */
static void __attribute__((noinline)) refuse(struct x86_cpu *c, const struct exec *x)
{
	const struct x86_state *s = &c->s;

	if (x->image)
		x86_x87_sync(c);
	for (unsigned n = 0; n < x->o.n_features; n++)
		if (c->model && !x86_has(c->model, x->o.feature[n].word, x->o.feature[n].bit))
			x86_ud(c);
	if (x->vex && (c->mode == X86_MODE_REAL || c->mode == X86_MODE_VM86))
		x86_ud(c);
	if ((s->cr4 & x->cr4_need) != x->cr4_need || (s->xcr0 & x->xcr0_need) != x->xcr0_need)
		x86_ud(c);
	if (s->cr0 & x->cr0_bad & X86_CR0_EM)
		x86_raise(c, x->o.state == OP_STATE_X87 ? X86_EX_NM : X86_EX_UD);
	if (s->cr0 & x->cr0_bad & X86_CR0_TS)
		x86_raise(c, X86_EX_NM);
	if (x->waits && (exec_fsw(&s->fpu) & EXEC_FSW_ES))
		x86_raise(c, X86_EX_MF);
}

/* The common answer in few instructions: nothing stands in the way. */
static inline bool enabled(const struct x86_cpu *c, const struct exec *x)
{
	const struct x86_state *s = &c->s;
	uint64_t bad = (s->cr0 & x->cr0_bad) | (~s->cr4 & x->cr4_need) | (~s->xcr0 & x->xcr0_need);

	if (x->vex)
		bad |= c->mode <= X86_MODE_VM86;
	bad |= x->image & c->x87_away;
	if (x->waits)
		bad |= exec_fsw(&s->fpu) & EXEC_FSW_ES;
	return !bad && (x->features_ok || features_ok(c->model, &x->o));
}

/* --- running --- */
static _Noreturn void stub_fault(struct x86_cpu *c, const struct exec *x, uint64_t r)
{
	if (x->o.mxcsr && (r >> 32 & 0xff) == EXEC_FAULT_XM)
		c->s.fpu.mxcsr = (uint32_t)r;
	switch (r >> 32 & 0xff) {
	case EXEC_FAULT_GP: x86_gp(c, 0);
	case EXEC_FAULT_AC: x86_raise_err(c, X86_EX_AC, 0);
	case EXEC_FAULT_XM:
		x86_raise(c, (c->s.cr4 & X86_CR4_OSXMMEXCPT) ? X86_EX_XM : X86_EX_UD);
	default: x86_ud(c);
	}
}

/* FIP, FDP and FOP of the last x87 instruction that was not a control one.  fdp: as
 * it was before; what the stub stored is the host's, if not lost (AMD). */
static void x87_pointers(struct x86_cpu *c, const struct exec *x, uint64_t lin, uint64_t fdp)
{
	uint8_t *fx = c->s.fpu.fx;

	st_le16(fx + 6, x->fop);
	st_le64(fx + 8, x86_rip(c));
	if (x->i.has_mem) {
		fdp = lin - c->s.seg[x->i.mem_seg].base;
		if (c->mode != X86_MODE_LONG64)
			fdp = (uint32_t)fdp;
	}
	st_le64(fx + 16, fdp);
}

static inline uint64_t call(struct x86_cpu *c, const struct exec *x, void *mem)
{
	uint64_t r;

	exec_current = x;
	r = x->code(&c->s, mem, (c->s.rflags & X86_FL_ARITH) | X86_FL_FIXED | X86_FL_IF);
	if (unlikely(r & EXEC_FAULT))
		stub_fault(c, x, r);
	if (x->flags_written)
		c->s.rflags = (c->s.rflags & ~(uint64_t)x->flags_written) | (r & x->flags_written);
	return r;
}

void exec_call(struct x86_cpu *c, const struct exec *x, void *mem, uint64_t lin)
{
	uint64_t fdp;

	if (likely(x->x87 == EXEC_X87_NONE)) {
		call(c, x, mem);
		return;
	}
	if (x->x87 == EXEC_X87_MMX) {
		exec_x87_enter_mmx(&c->s.fpu);
		call(c, x, mem);
		exec_x87_leave_mmx(&c->s.fpu, x->o.mm_write);
		return;
	}
	st_le32(c->s.fpu.fx + 24, 0x1f80);	/* MXCSR is kept elsewhere; C code's goes through FXRSTOR */
	fdp = ld_le64(c->s.fpu.fx + 16);
	call(c, x, mem);
	x87_pointers(c, x, lin, fdp);
}

static void run_reg(struct x86_cpu *c, const struct exec *x, uint64_t lin)
{
	exec_call(c, x, NULL, lin);
}

/* CR0.AM, EFLAGS.AC and CPL 3: an operand of 2, 4 or 8 bytes (10: 8) must be aligned. */
static void check_ac(struct x86_cpu *c, const struct exec *x, uint64_t lin)
{
	unsigned n = x->mem_size == 10 ? 8 : x->mem_size;

	if (is_pow2(n) && n <= 16 && (lin & (n - 1)))
		x86_raise_err(c, X86_EX_AC, 0);
}

/* An x87 store with an unmasked error other than an inexact result stores nothing
 * (none was pending before, so what is pending now is its own). */
static bool stored(const struct x86_cpu *c, const struct exec *x)
{
	return x->x87 != EXEC_X87_STUB || !(exec_fsw(&c->s.fpu) & ~exec_fcw(&c->s.fpu) & 0x1f);
}

static void run_bounced(struct x86_cpu *c, const struct exec *x, uint64_t lin)
{
	alignas(64) uint8_t buf[192];
	uint8_t *p = buf + (lin & 63);

	if (x->mem_write)
		x86_mem_probe(c, lin, x->mem_size, X86_WRITE, c->acc);
	/* What a mask spares (VEXTRACTF64X4) is written back as it was. */
	if (x->mem_read || x->o.mask_k)
		x86_mem_read(c, lin, p, x->mem_size, c->acc);
	exec_call(c, x, p, lin);
	if (x->mem_write && stored(c, x))
		x86_mem_write(c, lin, p, x->mem_size, c->acc);
}

void exec_run_mem(struct x86_cpu *c, const struct exec *x, uint64_t lin)
{
	void *p;

	if (unlikely(lin & x->align))
		x86_gp(c, 0);
	if (unlikely((c->s.rflags & X86_FL_AC) && c->cpl == 3 && (c->s.cr0 & X86_CR0_AM)))
		check_ac(c, x, lin);
	p = x86_mem_host(c, lin, x->mem_size, x->mem_write ? X86_WRITE : X86_READ, c->acc);
	if (unlikely(!p)) {
		run_bounced(c, x, lin);
		return;
	}
	exec_call(c, x, p, lin);
	if (x->mem_write)
		x86_mem_stored(c, lin, x->mem_size, c->acc);
}

/* Neither the first of the operand's bytes nor the one at `last` is outside the canonical range, or beyond a
 * flat segment. */
static inline bool address_ok(const struct x86_cpu *c, const struct exec *x, uint64_t lin, unsigned last)
{
	if (likely(c->mode == X86_MODE_LONG64))
		return x86_canonical(c, lin) && x86_canonical(c, lin + last);
	return !c->flat || x->i.mem_seg >= X86_FS || lin + last <= 0xffffffffu;
}

static _Noreturn void __attribute__((noinline)) bad_address(struct x86_cpu *c, const struct exec *x, uint64_t lin)
{
	if (lin & x->align)
		x86_gp(c, 0);
	if (x->piece && address_ok(c, x, lin, x->piece - 1u))
		x86_mem_probe(c, lin, x->piece, x->mem_write ? X86_WRITE : X86_READ, c->acc);
	x86_raise_err(c, x->i.mem_seg == X86_SS ? X86_EX_SS : X86_EX_GP, 0);
}

unsigned exec_check(struct x86_cpu *c, const struct exec *x)
{
	if (unlikely(!enabled(c, x)))
		refuse(c, x);
	return x->piece;
}

void exec_run(struct x86_cpu *c, const struct exec *x, uint64_t off_lin)
{
	if (unlikely(!enabled(c, x)))
		refuse(c, x);
	if (x->simple) {
		call(c, x, NULL);
		return;
	}
	if (x->own_address && unlikely(!address_ok(c, x, off_lin, x->last_byte)))
		bad_address(c, x, off_lin);
	x->run(c, x, off_lin);
}

bool exec_is_plain_reg(const struct exec *x) { return x->run == run_reg; }
