/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The translate engine: interp with the translator as its upper tier.  What is
 * here is memory: the code cache, mapped twice so that no address is both
 * writable and executable, and the vCPU blocks.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cpu/translate/direct.h"
#include "cpu/translate/gen.h"

/* Code takes two thirds of it, records of blocks the rest. */
#define CACHE_SIZE (256u << 20)
/* Code that runs less often is cheaper to interpret. */
#define HEAT 6
/* Below the vCPU block: return addresses of thunks. */
#define RED_ZONE 4096u

static int code_cache_map(struct xl_engine *xe)
{
	int fd = memfd_create("lodge-code", MFD_CLOEXEC), r = 0;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)xe->size) < 0) {
		r = -errno;
		goto out;
	}
	xe->rw = mmap(NULL, xe->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	xe->rx = mmap(NULL, xe->size, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	if (xe->rw == MAP_FAILED || xe->rx == MAP_FAILED)
		r = -errno;
out:
	close(fd);
	return r;
}

static void unmap(void *p, size_t n)
{
	if (p && p != MAP_FAILED)
		munmap(p, n);
}

static void tier_engine_free(void *opaque)
{
	struct xl_engine *xe = opaque;

	xl_check_fini(xe);
	xl_dump_fini(xe);
	if (xe->m)
		mem_unlisten(xe->m->mem, &xe->listener);
	exec_cache_free(xe->exec);
	unmap(xe->rw, xe->size);
	unmap(xe->rx, xe->size);
	unmap(xe->meta, xe->meta_size);
	pthread_mutex_destroy(&xe->lock);
	pthread_mutex_destroy(&xe->page_lock);
	free(xe->gen);
	free(xe);
}

static void on_hit(void *opaque, _Atomic uint32_t *verp) { xl_page_changed(opaque, verp); }

static void on_mark(void *opaque, _Atomic uint8_t *flags, uint64_t page)
{
	xl_page_has_code(opaque, flags);
	if (atomic_load(flags) & MEM_PG_DIRECT) {
		atomic_fetch_and(flags, (uint8_t)~MEM_PG_DIRECT);
		xl_direct_marked(opaque, page);
	}
}

/* A device wrote to pages with code. */
static void on_dma(void *opaque, uint64_t gpa, uint64_t len)
{
	struct xl_engine *xe = opaque;
	uint64_t end = gpa + len;

	for (gpa &= ~0xfffull; gpa < end; gpa += PAGE_4K) {
		struct mem_range r;

		if (mem_find(xe->m->mem, gpa, &r))
			xl_page_changed(xe, r.version + (gpa - r.gpa) / PAGE_4K);
	}
}

static void map_same(void *opaque, const struct mem_range *r)
{
}

static int tier_engine_init(struct cpu_engine *e, const struct cpu_engine_config *cfg, void **out, struct err *err)
{
	struct xl_engine *xe = calloc(1, sizeof(*xe));
	uint64_t total;
	int r = -ENOMEM;

	if (!xe)
		return err_set(err, r, "out of memory");
	pthread_mutex_init(&xe->lock, NULL);
	pthread_mutex_init(&xe->page_lock, NULL);
	xe->host.avx = __builtin_cpu_supports("avx");
	xe->host.avx512f = __builtin_cpu_supports("avx512f");
	xe->host.avx512bw = __builtin_cpu_supports("avx512bw");
	/* Before Zen 3, AMD's PEXT is microcode of some 20 cycles. */
	xe->host.pext = __builtin_cpu_supports("bmi2") && !__builtin_cpu_is("amdfam15h") && !__builtin_cpu_is("amdfam17h");
	xe->gen = calloc(1, sizeof(*xe->gen));
	total = cfg->code_cache ? cfg->code_cache : CACHE_SIZE;
	xe->size = align_up(total * 5 / 8, PAGE_4K);
	xe->meta_size = align_up(total * 3 / 8, PAGE_4K);	/* as much as the records of the code take */
	xe->meta = mmap(NULL, xe->meta_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (!xe->gen || xe->meta == MAP_FAILED)
		goto fail;
	r = code_cache_map(xe);
	if (r < 0)
		goto fail;
	xe->exec = exec_cache_new(&r);
	if (!xe->exec)
		goto fail;
	exec_cache_set_model(xe->exec, interp_engine_model(e));
	r = xl_thunks_make(xe);
	if (r < 0)
		goto fail;
	xl_regions_init(xe);
	r = xl_dump_init(xe, cfg, err);
	if (r < 0) {
		tier_engine_free(xe);
		return r;
	}
	x86_codemap_on_hit(interp_engine_codemap(e), on_hit, xe);
	x86_codemap_on_mark(interp_engine_codemap(e), on_mark, xe);
	xe->direct = e->ops == &cpu_engine_check ? CPU_DIRECT_OFF : cfg->direct;
	xe->m = e->m;
	xe->heat = xe->heat_least = cfg->heat ? cfg->heat : HEAT;
	xe->heat_fixed = cfg->heat;
	if (e->ops == &cpu_engine_check) {
		xe->spoil = cfg->spoil;
		r = xl_check_init(xe);
		if (r < 0)
			goto fail;
	}
	xe->listener = (struct mem_listener){ .added = map_same, .removed = map_same, .code_written = on_dma, .opaque = xe };
	mem_listen(e->m->mem, &xe->listener);
	*out = xe;
	return 0;
fail:
	tier_engine_free(xe);
	return err_set(err, r, "the translator has no memory for its code cache (%s); are executable mappings forbidden?", strerror(-r));
}

/* Where user code runs natively RDTSC tells what the host's counter has. */
static bool host_tsc(void *opaque) { return ((struct xl_engine *)opaque)->direct != CPU_DIRECT_OFF && xl_direct_possible(); }

static void cpu_free(struct interp_cpu *ic)
{
	xl_check_cpu_fini((struct xl_cpu *)ic);
	xl_direct_free(((struct xl_cpu *)ic)->direct);
	munmap((char *)ic - RED_ZONE, RED_ZONE + align_up(sizeof(struct xl_cpu), PAGE_4K));
}

static void cpu_drop(struct interp_cpu *ic) { xl_cpu_drop((struct xl_cpu *)ic); }

static struct interp_cpu *cpu_new(void *opaque)
{
	size_t n = RED_ZONE + align_up(sizeof(struct xl_cpu), PAGE_4K);
	struct xl_engine *xe = opaque;
	struct xl_cpu *x;
	char *p;

	p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return NULL;
	x = (struct xl_cpu *)(p + RED_ZONE);
	x->xe = xe;
	x->host_mxcsr = 0x1f80;
	x->tlb_bits = (uint64_t)(XL_TLB_SIZE - 1) << 12;
	x->jc_bits = (uint64_t)(XL_JC_SIZE - 1) << XL_JC_SHIFT;
	atomic_store(&x->bounce_flags, MEM_PG_CODE);
	x->ic.c.tlb_flushed = xl_flushed;
	x->ic.c.x87_fetch = xl_x87_fetch;
	xl_cpu_fresh(x);
	if ((xe->turn && xl_check_cpu_init(x) < 0) || xl_direct_new(x, xe->direct, &x->direct) < 0) {
		cpu_free(&x->ic);
		return NULL;
	}
	xe->cpus[xe->n_cpus++] = x;
	return &x->ic;
}

static const struct interp_tier tier = {
	.ops = &cpu_engine_translate,
	.engine_init = tier_engine_init,
	.engine_free = tier_engine_free,
	.host_tsc = host_tsc,
	.cpu_new = cpu_new,
	.cpu_free = cpu_free,
	.cpu_drop = cpu_drop,
	.run = xl_run,
	.aborted = xl_aborted,
	.stats = xl_stats,
	.kick = xl_direct_kick,
};

static const struct interp_tier check_tier = {
	.ops = &cpu_engine_check,
	.engine_init = tier_engine_init,
	.engine_free = tier_engine_free,
	.host_tsc = host_tsc,
	.cpu_new = cpu_new,
	.cpu_free = cpu_free,
	.cpu_drop = cpu_drop,
	.run = xl_check_run,
	.aborted = xl_check_aborted,
	.stats = xl_stats,
	.report = xl_check_report,
};

/* --- the engine: interp's, with the tier --- */

static int probe(struct probe_report *r)
{
	int fd = memfd_create("lodge-probe", MFD_CLOEXEC), err = 0;
	void *p = MAP_FAILED;

	/* What some hosts' policies forbid: executable mappings of what was written. */
	if (fd >= 0 && ftruncate(fd, 4096) == 0)
		p = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		err = errno;
	else
		munmap(p, 4096);
	if (fd >= 0)
		close(fd);
	r->usable = r->good = !err;
	if (err)
		snprintf(r->why, sizeof(r->why), "the translator may not make executable memory here (%s)", strerror(err));
	else
		snprintf(r->why, sizeof(r->why), "the translator runs on any x86-64 host");
	r->cure[0] = '\0';
	return 0;
}

static int init(struct machine *m, const struct cpu_engine_config *cfg, struct cpu_engine **out, struct err *err)
{
	return interp_engine_new(m, cfg, &tier, out, err);
}

static int check_init(struct machine *m, const struct cpu_engine_config *cfg, struct cpu_engine **out, struct err *err)
{
	return interp_engine_new(m, cfg, &check_tier, out, err);
}

static void free_engine(struct cpu_engine *e) { cpu_engine_interp.free(e); }
static int vcpu_create(struct cpu_engine *e, unsigned id, struct err *err) { return cpu_engine_interp.vcpu_create(e, id, err); }
static int vcpu_thread_init(struct vcpu *v) { return cpu_engine_interp.vcpu_thread_init(v); }
static enum vcpu_stop vcpu_run(struct vcpu *v) { return cpu_engine_interp.vcpu_run(v); }
static void vcpu_power_on(struct vcpu *v) { cpu_engine_interp.vcpu_power_on(v); }
static int state_get(struct vcpu *v, struct x86_state *s) { return cpu_engine_interp.state_get(v, s); }
static int state_set(struct vcpu *v, const struct x86_state *s) { return cpu_engine_interp.state_set(v, s); }
static int debug(struct vcpu *v, const struct cpu_debug *d, bool step) { return cpu_engine_interp.debug(v, d, step); }
static const struct cpu_debug_stop *debug_stop(struct vcpu *v) { return cpu_engine_interp.debug_stop(v); }
static bool has_irqchip(struct cpu_engine *e) { return cpu_engine_interp.has_irqchip(e); }
static bool has_lapic(struct cpu_engine *e) { return cpu_engine_interp.has_lapic(e); }
static int irq_line(struct cpu_engine *e, unsigned gsi, bool level) { return cpu_engine_interp.irq_line(e, gsi, level); }
static int msi(struct cpu_engine *e, const struct msi *m) { return cpu_engine_interp.msi(e, m); }
static int msi_fd(struct cpu_engine *e, int fd, const struct msi *m, bool add) { return cpu_engine_interp.msi_fd(e, fd, m, add); }
static int extint(struct cpu_engine *e, bool level) { return cpu_engine_interp.extint(e, level); }
static int clock_get(struct cpu_engine *e, struct engine_clock *t) { return cpu_engine_interp.clock_get(e, t); }
static int set_clock(struct cpu_engine *e, const struct engine_clock *t) { return cpu_engine_interp.clock_set(e, t); }
static void stats(struct cpu_engine *e, engine_stat_fn fn, void *opaque) { cpu_engine_interp.stats(e, fn, opaque); }
static void report(struct vcpu *v, char *buf, size_t len) { cpu_engine_interp.report(v, buf, len); }

/* What the two engines share. */
#define SHARED_OPS \
	.probe = probe, .free = free_engine, .vcpu_create = vcpu_create, \
	.vcpu_thread_init = vcpu_thread_init, .vcpu_run = vcpu_run, .vcpu_power_on = vcpu_power_on, .state_get = state_get, \
	.state_set = state_set, .has_irqchip = has_irqchip, .has_lapic = has_lapic, .irq_line = irq_line, \
	.msi = msi, .msi_fd = msi_fd, .extint = extint, \
	.clock_get = clock_get, .clock_set = set_clock, .stats = stats, .report = report

const struct cpu_engine_ops cpu_engine_translate = { .name = "translate", .init = init, .debug = debug, .debug_stop = debug_stop, SHARED_OPS };
const struct cpu_engine_ops cpu_engine_check = { .name = "check", .init = check_init, SHARED_OPS };
