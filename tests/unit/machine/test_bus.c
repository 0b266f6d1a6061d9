/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Promises of the bus: a handler sees only whole, aligned accesses of sizes it
 * declared, inside its region; the higher priority wins; a handler may move its
 * own region; doorbells ring without a handler; nothing answers with ones.
 */
#include "../unit.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include "base/bits.h"
#include "machine/machine.h"

struct rec {
	char log[256];
	uint64_t value;
	struct bus_region *move;
};

static uint64_t rd(void *o, uint64_t off, unsigned len)
{
	struct rec *r = o;

	snprintf(r->log + strlen(r->log), sizeof(r->log) - strlen(r->log), "r%llx.%u ",
		 (unsigned long long)off, len);
	return r->value >> (8 * (off & 7));
}

static void wr(void *o, uint64_t off, unsigned len, uint64_t v)
{
	struct rec *r = o;

	snprintf(r->log + strlen(r->log), sizeof(r->log) - strlen(r->log), "w%llx.%u=%llx ",
		 (unsigned long long)off, len, (unsigned long long)v);
	if (r->move) {
		struct bus *b = r->move->bus;

		bus_del(r->move);
		r->move->base = v;
		bus_add(b, r->move);
	}
}

static const struct bus_ops any = { .read = rd, .write = wr };
static const struct bus_ops dword_only = { .read = rd, .write = wr, .min_len = 4, .max_len = 4 };
static const struct bus_ops byte_only = { .read = rd, .write = wr, .max_len = 1 };
static const struct bus_ops odd_ok = { .read = rd, .write = wr, .unaligned = true };
static const struct bus_ops no_lock = { .read = rd, .write = wr, .unlocked = true };

static int setup(void **state)
{
	struct machine *m;

	if (machine_new(&m, true))
		return -1;
	*state = m;
	return 0;
}

static int teardown(void **state)
{
	machine_free(*state);
	return 0;
}

static uint64_t get(struct bus *b, uint64_t addr, unsigned len)
{
	uint64_t v = 0;

	bus_access(b, addr, &v, len, false);
	return v;
}

static int set(struct bus *b, uint64_t addr, unsigned len, uint64_t v)
{
	return bus_access(b, addr, &v, len, true);
}

static void nothing_reads_ones(void **state)
{
	struct machine *m = *state;
	uint8_t buf[64], ones[64];

	memset(ones, 0xff, sizeof(ones));
	memset(buf, 0, sizeof(buf));
	assert_int_equal(bus_access(m->mmio, 0xfee00000, buf, 64, false), -ENXIO);
	assert_memory_equal(buf, ones, 64);
	assert_int_equal(set(m->pio, 0x80, 1, 1), -ENXIO);
	memset(buf, 0, sizeof(buf));
	assert_int_equal(bus_access(m->mmio, UINT64_MAX, buf, 8, false), -ENXIO);
	assert_memory_equal(buf, ones, 8);
	assert_int_equal(bus_access(m->mmio, 0, buf, 65, false), -EINVAL);
	assert_int_equal(bus_access(m->mmio, 0, buf, 0, false), -EINVAL);
}

static void wide_is_split_narrow_is_widened(void **state)
{
	struct machine *m = *state;
	struct rec r = { .value = 0x8877665544332211 };
	struct bus_region d = { .name = "d", .ops = &dword_only, .opaque = &r, .base = 0x1000, .size = 16 };
	struct bus_region y = { .name = "y", .ops = &byte_only, .opaque = &r, .base = 0x2000, .size = 16 };

	assert_int_equal(bus_add(m->mmio, &d), 0);
	assert_int_equal(bus_add(m->mmio, &y), 0);
	assert_int_equal(get(m->mmio, 0x1000, 8), 0x8877665544332211);
	assert_string_equal(r.log, "r0.4 r4.4 ");
	r.log[0] = 0;
	assert_int_equal(get(m->mmio, 0x1001, 2), 0x3322);
	assert_string_equal(r.log, "r0.4 ");
	r.log[0] = 0;
	assert_int_equal(get(m->mmio, 0x1002, 4), 0x66554433);	/* unaligned: two units */
	assert_string_equal(r.log, "r0.4 r4.4 ");
	r.log[0] = 0;
	set(m->mmio, 0x1000, 2, 0xabcd);
	assert_string_equal(r.log, "");				/* too narrow to write */
	set(m->mmio, 0x2000, 4, 0x04030201);
	assert_string_equal(r.log, "w0.1=1 w1.1=2 w2.1=3 w3.1=4 ");
	bus_del(&d);
	bus_del(&y);
	bus_del(&y);						/* no-op */
}

static void accesses_never_leave_the_region(void **state)
{
	struct machine *m = *state;
	struct rec r = { .value = 0 };
	struct bus_region p = { .name = "p", .ops = &any, .opaque = &r, .base = 0x100, .size = 3 };

	assert_int_equal(bus_add(m->pio, &p), 0);
	assert_int_equal(get(m->pio, 0x100, 4), 0xff000000);
	assert_string_equal(r.log, "r0.2 r2.1 ");
	r.log[0] = 0;
	assert_int_equal(get(m->pio, 0xfe, 4), 0x0000ffff);
	assert_string_equal(r.log, "r0.2 ");
	r.log[0] = 0;
	set(m->pio, 0x101, 2, 0xbbaa);				/* unaligned: bytes */
	assert_string_equal(r.log, "w1.1=aa w2.1=bb ");
	bus_del(&p);
	p.ops = &odd_ok;
	r.log[0] = 0;
	assert_int_equal(bus_add(m->pio, &p), 0);
	set(m->pio, 0x101, 2, 0xbbaa);
	assert_string_equal(r.log, "w1.2=bbaa ");
	bus_del(&p);
}

static void priority_wins_and_uncovers(void **state)
{
	struct machine *m = *state;
	struct rec lo = { .value = 0x1111111111111111 }, hi = { .value = 0x2222222222222222 };
	struct bus_region a = { .name = "a", .ops = &any, .opaque = &lo, .base = 0, .size = 0x1000 };
	struct bus_region b = { .name = "b", .ops = &any, .opaque = &hi, .base = 0x800, .size = 4,
				.priority = 1 };
	struct bus_region same = { .name = "s", .ops = &any, .opaque = &hi, .base = 0, .size = 8 };

	assert_int_equal(bus_add(m->mmio, &b), 0);
	assert_int_equal(bus_add(m->mmio, &a), 0);
	assert_int_equal(bus_add(m->mmio, &same), -EEXIST);
	assert_int_equal(get(m->mmio, 0x800, 8), 0x1111111122222222);
	assert_string_equal(lo.log, "r804.4 ");
	bus_del(&b);
	assert_int_equal(get(m->mmio, 0x800, 8), 0x1111111111111111);
	bus_del(&a);
	assert_int_equal(get(m->mmio, 0x800, 4), 0xffffffff);
}

static void regions_beyond_the_bus_are_refused(void **state)
{
	struct machine *m = *state;
	struct rec r = { .value = 0 };
	struct bus_region p = { .name = "p", .ops = &any, .opaque = &r, .base = 0xfffe, .size = 4 };

	assert_int_equal(bus_add(m->pio, &p), -EINVAL);
	p.size = 0;
	assert_int_equal(bus_add(m->pio, &p), -EINVAL);
	p.size = 2;
	assert_int_equal(bus_add(m->pio, &p), 0);
	assert_int_equal(bus_add(m->pio, &p), -EINVAL);		/* registered already */
	assert_int_equal(get(m->pio, 0xffff, 4), 0xffffff00);
	bus_del(&p);
	p.base = UINT64_MAX - 1;
	p.size = 4;
	assert_int_equal(bus_add(m->mmio, &p), -EINVAL);
}

static void a_handler_may_move_its_region(void **state)
{
	struct machine *m = *state;
	struct rec r = { .value = 0 };
	struct bus_region p = { .name = "p", .ops = &any, .opaque = &r, .base = 0x1000, .size = 8 };

	r.move = &p;
	assert_int_equal(bus_add(m->mmio, &p), 0);
	set(m->mmio, 0x1000, 4, 0x5000);
	assert_false(bus_covers(m->mmio, 0x1000));
	assert_true(bus_covers(m->mmio, 0x5007));
	bus_del(&p);
}

static void doorbells_ring_instead(void **state)
{
	struct machine *m = *state;
	struct rec r = { .value = 0 };
	struct bus_region p = { .name = "p", .ops = &any, .opaque = &r, .base = 0x1000, .size = 16 };
	int fd = eventfd(0, EFD_NONBLOCK);
	struct bus_doorbell any_len = { .addr = 0x1004, .fd = fd };
	struct bus_doorbell two = { .addr = 0x1008, .len = 2, .match = true, .value = 2, .fd = fd };
	struct bus_doorbell dup = { .addr = 0x1004, .fd = fd };
	uint64_t n = 0;

	assert_int_equal(bus_add(m->mmio, &p), 0);
	assert_int_equal(bus_doorbell_add(m->mmio, &any_len), 0);
	assert_int_equal(bus_doorbell_add(m->mmio, &two), 0);
	assert_int_equal(bus_doorbell_add(m->mmio, &dup), -EEXIST);
	machine_lock(m);		/* a bell needs no lock: this would hang otherwise */
	set(m->mmio, 0x1004, 4, 7);
	set(m->mmio, 0x1008, 2, 2);
	machine_unlock(m);
	assert_int_equal(read(fd, &n, 8), 8);
	assert_int_equal(n, 2);
	assert_string_equal(r.log, "");
	set(m->mmio, 0x1008, 2, 3);
	set(m->mmio, 0x1008, 4, 2);
	assert_string_equal(r.log, "w8.2=3 w8.4=2 ");
	bus_doorbell_del(&two);
	bus_doorbell_del(&any_len);
	set(m->mmio, 0x1004, 1, 1);
	assert_int_equal(read(fd, &n, 8), -1);
	bus_del(&p);
	close(fd);
}

static void unlocked_regions_take_no_lock(void **state)
{
	struct machine *m = *state;
	struct rec r = { .value = 0x42 };
	struct bus_region p = { .name = "p", .ops = &no_lock, .opaque = &r, .base = 0x1000, .size = 16 };

	assert_int_equal(bus_add(m->mmio, &p), 0);
	machine_lock(m);
	assert_int_equal(get(m->mmio, 0x1000, 4), 0x42);
	machine_unlock(m);
	bus_del(&p);
}

/* Random regions against a model that searches them one by one. */
static void random_maps_agree_with_a_model(void **state)
{
	struct machine *m = *state;
	struct rec rec[24];
	struct bus_region reg[24];
	unsigned seed = 7;

	memset(reg, 0, sizeof(reg));
	memset(rec, 0, sizeof(rec));
	for (int round = 0; round < 3000; round++) {
		int i = rand_r(&seed) % 24;
		uint64_t addr = rand_r(&seed) % 256;
		struct bus_region *best = NULL;

		bus_del(&reg[i]);
		rec[i].value = 0x0101010101010101ull * (unsigned)(i + 1);
		reg[i] = (struct bus_region){ .name = "r", .ops = &byte_only, .opaque = &rec[i],
			.base = (uint64_t)rand_r(&seed) % 250, .size = 1 + rand_r(&seed) % 60,
			.priority = i };
		assert_int_equal(bus_add(m->mmio, &reg[i]), 0);
		for (int k = 0; k < 24; k++)
			if (reg[k].bus && addr - reg[k].base < reg[k].size)
				best = &reg[k];		/* a higher index has priority */
		assert_int_equal(get(m->mmio, addr, 1), best ? best->priority + 1 : 0xff);
		for (int k = 0; k < 24; k++)
			rec[k].log[0] = 0;
	}
	for (int k = 0; k < 24; k++)
		bus_del(&reg[k]);
}

static void or_wire(void *o, int n, bool level)
{
	strcat(o, level ? "1" : "0");
}

static void shared_wires_are_ored(void **state)
{
	char log[16] = "";
	struct irq_or w = { .out = { .set = or_wire, .opaque = log } };

	irq_or_set(&w, 3, true);
	irq_or_set(&w, 63, true);
	irq_or_set(&w, 3, false);
	irq_or_set(&w, 3, false);
	assert_string_equal(log, "1");
	irq_or_set(&w, 63, false);
	irq_or_set(&w, 64, true);		/* no such source */
	irq_or_set(&w, -1, true);
	assert_string_equal(log, "10");
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(nothing_reads_ones),
		T(wide_is_split_narrow_is_widened),
		T(accesses_never_leave_the_region),
		T(priority_wins_and_uncovers),
		T(regions_beyond_the_bus_are_refused),
		T(a_handler_may_move_its_region),
		T(doorbells_ring_instead),
		T(unlocked_regions_take_no_lock),
		T(random_maps_agree_with_a_model),
		cmocka_unit_test(shared_wires_are_ored),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
