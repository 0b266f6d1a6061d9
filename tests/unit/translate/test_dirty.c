// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Promise: whoever copies, round by round, the pages that the log of written
 * pages names has at the end what the memory has, whatever the vCPU wrote
 * meanwhile and a device with it; and a page that nobody writes is not in the log.
 * The guest writes all over 2 MiB in flat 32-bit mode, by plain, locked and string
 * instructions, on both software engines.
 */
#include "../unit.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "base/bits.h"
#include "cpu/engine.h"
#include "machine/dirty.h"

#define RAM (8u << 20)
#define CODE 0x1000u
#define DATA 0x200000u
#define DATA_END 0x401000u	/* string stores reach a little beyond 2 MiB */
#define DMA 0x600000u
#define ROUNDS 300

struct fix {
	const struct cpu_engine_ops *ops;
	struct machine *m;
	struct cpu_engine *e;
	struct x86_state *s;
	pthread_t thread;
	uint64_t map[RAM / PAGE_4K / 64];
	uint8_t *copy;
};

static const uint8_t code[] = {
	0x69, 0xc0, 0x6d, 0x4e, 0xc6, 0x41,			/* imul eax, eax, 1103515245 */
	0x05, 0x39, 0x30, 0x00, 0x00,				/* add eax, 12345 */
	0x89, 0xc2, 0xc1, 0xea, 0x04,				/* mov edx, eax; shr edx, 4 */
	0x81, 0xe2, 0xfc, 0xff, 0x1f, 0x00,			/* and edx, 0x1ffffc */
	0x89, 0x82, 0x00, 0x00, 0x20, 0x00,			/* mov [edx+DATA], eax */
	0x81, 0xf2, 0x00, 0xf0, 0x07, 0x00,			/* xor edx, 0x7f000 */
	0xf0, 0x01, 0x82, 0x00, 0x00, 0x20, 0x00,		/* lock add [edx+DATA], eax */
	0x8d, 0xba, 0x00, 0x00, 0x20, 0x00,			/* lea edi, [edx+DATA] */
	0xb9, 0x20, 0x00, 0x00, 0x00,				/* mov ecx, 32 */
	0xf3, 0xab,						/* rep stosd */
	0xeb, 0xc8,						/* jmp to the beginning */
};

static struct x86_seg flat(uint16_t sel, uint32_t attr)
{
	return (struct x86_seg){ .sel = sel, .limit = 0xffffffff, .attr = attr };
}

static void start_state(struct x86_state *s)
{
	x86_state_reset(s, 0, 0);
	s->cr0 = X86_CR0_PE | X86_CR0_NE | X86_CR0_ET;
	for (unsigned n = 0; n < X86_NSEG; n++)
		s->seg[n] = flat(0x10, 0xc093);
	s->seg[X86_CS] = flat(0x08, 0xc09b);
	s->rip = CODE;
	s->activity = X86_ACTIVE;
}

static void *vcpu_thread(void *opaque)
{
	struct fix *f = opaque;

	assert_int_equal(f->ops->vcpu_run(f->m->vcpus[0]), VCPU_STOP_KICK);
	return NULL;
}

static int set_up(void **state, const struct cpu_engine_ops *ops)
{
	struct cpu_engine_config cfg = { .n_vcpus = 1, .heat = 1 };
	struct fix *f = calloc(1, sizeof(*f));
	struct err e;

	assert_non_null(f);
	f->ops = ops;
	f->copy = calloc(1, RAM);
	f->s = aligned_alloc(64, align_up(sizeof(*f->s), 64));
	assert_true(f->copy && f->s);
	assert_int_equal(machine_new(&f->m, false), 0);
	assert_int_equal(ops->init(f->m, &cfg, &f->e, &e), 0);
	f->m->n_vcpus = 1;
	assert_int_equal(mem_create_ram(f->m->mem, RAM, MEM_HUGE_NONE, &e), 0);
	assert_int_equal(mem_add_ram(f->m->mem, "ram", 0, 0, RAM, &e), 0);
	assert_int_equal(ops->vcpu_create(f->e, 0, &e), 0);
	if (ops->vcpu_thread_init)
		assert_int_equal(ops->vcpu_thread_init(f->m->vcpus[0]), 0);
	start_state(f->s);
	assert_int_equal(mem_write(f->m->mem, CODE, code, sizeof(code)), 0);
	assert_int_equal(ops->state_set(f->m->vcpus[0], f->s), 0);
	*state = f;
	return 0;
}

static int with_interp(void **state) { return set_up(state, &cpu_engine_interp); }
static int with_translate(void **state) { return set_up(state, &cpu_engine_translate); }

static int tear_down(void **state)
{
	struct fix *f = *state;

	f->ops->free(f->e);
	machine_free(f->m);
	free(f->s);
	free(f->copy);
	free(f);
	return 0;
}

static void settle(struct fix *f)
{
	const struct timespec ms = { .tv_nsec = 100000 };

	for (unsigned k = 0; !machine_dirty_settled(f->m); k++) {
		assert_true(k < 100000);
		nanosleep(&ms, NULL);
	}
}

static uint64_t copy_pages(struct fix *f)
{
	const uint8_t *ram = mem_ram_host(f->m->mem);
	uint64_t n = 0;

	for (unsigned w = 0; w < ARRAY_LEN(f->map); w++) {
		for (uint64_t bits = f->map[w]; bits; bits &= bits - 1, n++) {
			uint64_t at = (w * 64 + (uint64_t)__builtin_ctzll(bits)) * PAGE_4K;

			memcpy(f->copy + at, ram + at, PAGE_4K);
		}
		f->map[w] = 0;
	}
	return n;
}

static uint64_t round_of(struct fix *f)
{
	machine_lock(f->m);
	assert_int_equal(machine_dirty_fetch(f->m, 0, RAM / PAGE_4K, f->map), 0);
	machine_unlock(f->m);
	settle(f);
	return copy_pages(f);
}

static void stop(struct fix *f)
{
	vcpu_raise(f->m->vcpus[0], VCPU_EV_STOP);
	pthread_join(f->thread, NULL);
	f->m->vcpus[0]->has_thread = false;
}

static void go(struct fix *f)
{
	assert_int_equal(pthread_create(&f->thread, NULL, vcpu_thread, f), 0);
	f->m->vcpus[0]->thread = f->thread;
	f->m->vcpus[0]->has_thread = true;
}

static void copy_follows(void **state)
{
	struct fix *f = *state;
	uint64_t pages = 0;

	go(f);
	machine_lock(f->m);
	assert_int_equal(machine_dirty_start(f->m), 0);
	machine_unlock(f->m);
	settle(f);
	memcpy(f->copy, mem_ram_host(f->m->mem), RAM);
	for (unsigned k = 0; k < ROUNDS; k++) {
		assert_int_equal(mem_write(f->m->mem, DMA + k % 64 * PAGE_4K, &k, sizeof(k)), 0);
		pages += round_of(f);
	}
	stop(f);
	machine_lock(f->m);
	assert_int_equal(machine_dirty_fetch(f->m, 0, RAM / PAGE_4K, f->map), 0);
	machine_unlock(f->m);
	for (unsigned p = 0; p < RAM / PAGE_4K; p++) {
		bool writes = (p >= DATA / PAGE_4K && p < DATA_END / PAGE_4K) || (p >= DMA / PAGE_4K && p < DMA / PAGE_4K + 64);

		if (!writes)
			assert_false(f->map[p / 64] & BIT64(p % 64));
	}
	pages += copy_pages(f);
	assert_memory_equal(f->copy, mem_ram_host(f->m->mem), RAM);
	assert_true(pages >= ROUNDS);
	/* One that is to go may still write; when it is parked nobody waits for it. */
	assert_false(machine_dirty_settled(f->m));
	atomic_store(&f->m->vcpus[0]->absent, true);
	assert_false(machine_dirty_settled(f->m));
	atomic_store(&f->m->vcpus[0]->parked, true);
	assert_true(machine_dirty_settled(f->m));
	atomic_store(&f->m->vcpus[0]->parked, false);
	atomic_store(&f->m->vcpus[0]->absent, false);
	/* Off again, nothing is noted. */
	machine_lock(f->m);
	machine_dirty_stop(f->m);
	machine_unlock(f->m);
	go(f);
	nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL);
	stop(f);
	mem_dirty_fetch(f->m->mem, 0, RAM / PAGE_4K, f->map);
	assert_int_equal(copy_pages(f), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(copy_follows, with_interp, tear_down),
		cmocka_unit_test_setup_teardown(copy_follows, with_translate, tear_down),
	};

	return cmocka_run_group_tests_name("dirty", tests, NULL, NULL);
}
