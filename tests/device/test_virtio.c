/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest without a CPU finds and drives virtio devices as an operating system
 * does: PCI is scanned through 0xcf8, BARs are sized and placed, registers are
 * found by walking capabilities, nothing is known beforehand.  What is running
 * goes on after save, reset and load.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "chardev/chardev.h"
#include "pci/pci.h"
#include "puppet_client.h"
#include "virtio/balloon.h"
#include "virtio/console.h"
#include "virtio/rng.h"

#define RAM (16u << 20)
#define QSIZE 8
#define RINGS 0x10000u
#define DATA 0x80000u

struct found {
	unsigned devfn;
	uint64_t common, isr, device, notify;
	uint32_t notify_mul, msix_table;
	unsigned msix_cap;
};

struct fix {
	struct puppet *p;
	struct chardev *chr;
	char out[256];
	size_t n_out;
};

static void sink(void *opaque, const uint8_t *buf, size_t len)
{
	struct fix *f = opaque;

	assert_true(f->n_out + len < sizeof(f->out));
	memcpy(f->out + f->n_out, buf, len);
	f->n_out += len;
}

static int setup(void **state)
{
	struct pci_root_config cfg = { .cf8 = true };
	struct virtio_console_port port = { .console = true };
	struct fix *f = calloc(1, sizeof(*f));
	struct virtio_dev *d;
	struct pci_bus *root;
	struct err e;

	f->p = puppet_new(RAM);
	for (int i = 0; i < 4; i++)
		cfg.intx[i] = puppet_wire(f->p, i);
	assert_int_equal(chardev_pipe_new(f->p->m->loop, sink, f, &f->chr), 0);
	port.chr = f->chr;
	machine_lock(f->p->m);
	assert_int_equal(pci_root_new(f->p->m, &cfg, &root, &e), 0);
	assert_int_equal(virtio_rng_new(f->p->m, "rng0", &d, &e), 0);
	assert_int_equal(virtio_pci_new(f->p->m, root, PCI_DEVFN(3, 0), d, &e), 0);
	assert_int_equal(virtio_console_new(f->p->m, "con0", &port, 1, false, &d, &e), 0);
	assert_int_equal(virtio_pci_new(f->p->m, root, PCI_DEVFN(5, 2), d, &e), 0);
	assert_int_equal(virtio_balloon_new(f->p->m, "balloon0", &d, &e), 0);
	assert_int_equal(virtio_pci_new(f->p->m, root, PCI_DEVFN(5, 0), d, &e), 0);
	machine_unlock(f->p->m);
	puppet_reset(f->p);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	machine_lock(f->p->m);
	machine_free_devs(f->p->m);
	chardev_free(f->chr);
	machine_unlock(f->p->m);
	puppet_free(f->p);
	free(f);
	return 0;
}

/* ---- an operating system's steps ---- */

static uint32_t rd(struct fix *f, const struct found *v, unsigned off, unsigned len)
{
	return puppet_pci_read(f->p, 0, v->devfn, off, len);
}

static void wr(struct fix *f, const struct found *v, unsigned off, unsigned len, uint32_t x)
{
	puppet_pci_write(f->p, 0, v->devfn, off, len, x);
}

static bool scan(struct fix *f, uint16_t device, struct found *v)
{
	memset(v, 0, sizeof(*v));
	for (v->devfn = 0; v->devfn < 256; v->devfn++) {
		if (rd(f, v, 0, 4) == ((uint32_t)device << 16 | 0x1af4))
			return true;
		/* Functions 1 to 7 are looked at only if function 0 says so. */
		if (!(v->devfn & 7) && !(rd(f, v, 0x0e, 1) & 0x80))
			v->devfn += 7;
	}
	return false;
}

static uint64_t place(struct fix *f, const struct found *v, unsigned bar, uint64_t at)
{
	uint32_t lo = rd(f, v, 0x10 + 4 * bar, 4);
	uint64_t size;

	assert_int_equal(lo & 7, 4);			/* memory, 64 bits */
	wr(f, v, 0x10 + 4 * bar, 4, 0xffffffff);
	wr(f, v, 0x14 + 4 * bar, 4, 0xffffffff);
	size = -(rd(f, v, 0x10 + 4 * bar, 4) & ~15ull) - ((uint64_t)~rd(f, v, 0x14 + 4 * bar, 4) << 32);
	size &= 0xffffffff;
	assert_true(is_pow2(size) && size >= 4096);
	at = align_up(at, size);
	wr(f, v, 0x10 + 4 * bar, 4, (uint32_t)at);
	wr(f, v, 0x14 + 4 * bar, 4, at >> 32);
	return at;
}

static void probe(struct fix *f, uint16_t device, uint64_t at, struct found *v)
{
	uint64_t bar;

	assert_true(scan(f, device, v));
	bar = place(f, v, 0, at);
	wr(f, v, 4, 2, 6);
	for (unsigned c = rd(f, v, 0x34, 1); c; c = rd(f, v, c + 1, 1)) {
		uint64_t where = bar + rd(f, v, c + 8, 4);

		if (rd(f, v, c, 1) == 0x11) {
			v->msix_cap = c;
			v->msix_table = rd(f, v, c + 4, 4) & ~7u;
		}
		if (rd(f, v, c, 1) != 9)
			continue;
		switch (rd(f, v, c + 3, 1)) {
		case 1: v->common = where; break;
		case 2:
			v->notify = where;
			v->notify_mul = rd(f, v, c + 16, 4);
			break;
		case 3: v->isr = where; break;
		case 4: v->device = where; break;
		default: break;
		}
	}
	assert_true(v->common && v->isr && v->notify && v->msix_cap);
	for (unsigned i = 0; i < 4; i++) {
		puppet_mmio_write64(f->p, bar + v->msix_table + 16 * i, 0xfee00000);
		puppet_mmio_write32(f->p, bar + v->msix_table + 16 * i + 8, 0x60 + i);
		puppet_mmio_write32(f->p, bar + v->msix_table + 16 * i + 12, 0);
	}
	wr(f, v, v->msix_cap + 2, 2, 0x8000);
}

static uint64_t ring_at(unsigned q) { return RINGS + 0x1000ull * q; }

static void bring_up(struct fix *f, const struct found *v, unsigned queues)
{
	struct puppet *p = f->p;
	static const uint8_t zero[0x1000];

	puppet_mmio_write8(p, v->common + 0x14, 0);
	assert_int_equal(puppet_mmio_read8(p, v->common + 0x14), 0);
	puppet_mmio_write8(p, v->common + 0x14, 3);
	puppet_mmio_write32(p, v->common + 0x00, 1);
	assert_true(puppet_mmio_read32(p, v->common + 0x04) & 1);
	puppet_mmio_write32(p, v->common + 0x08, 1);
	puppet_mmio_write32(p, v->common + 0x0c, 1);
	puppet_mmio_write8(p, v->common + 0x14, 11);
	assert_int_equal(puppet_mmio_read8(p, v->common + 0x14), 11);
	assert_true(puppet_mmio_read16(p, v->common + 0x12) >= queues);
	for (unsigned q = 0; q < queues; q++) {
		puppet_mem_write(p, ring_at(q), zero, sizeof(zero));
		puppet_mmio_write16(p, v->common + 0x16, q);
		puppet_mmio_write16(p, v->common + 0x18, QSIZE);
		puppet_mmio_write16(p, v->common + 0x1a, q + 1);
		puppet_mmio_write64(p, v->common + 0x20, ring_at(q));
		puppet_mmio_write64(p, v->common + 0x28, ring_at(q) + 0x200);
		puppet_mmio_write64(p, v->common + 0x30, ring_at(q) + 0x400);
		puppet_mmio_write16(p, v->common + 0x1c, 1);
	}
	puppet_mmio_write8(p, v->common + 0x14, 15);
}

static void push(struct fix *f, const struct found *v, unsigned q, uint64_t addr, uint32_t len, bool write)
{
	uint8_t d[16], idx[2], head[2] = { 0 };
	uint16_t n;

	st_le64(d, addr);
	st_le32(d + 8, len);
	st_le16(d + 12, write ? 2 : 0);
	st_le16(d + 14, 0);
	puppet_mem_write(f->p, ring_at(q), d, sizeof(d));
	puppet_mem_read(f->p, ring_at(q) + 0x202, idx, 2);
	n = ld_le16(idx);
	puppet_mem_write(f->p, ring_at(q) + 0x204 + 2 * (n % QSIZE), head, 2);
	st_le16(idx, n + 1);
	puppet_mem_write(f->p, ring_at(q) + 0x202, idx, 2);
	puppet_mmio_write16(f->p, v->common + 0x16, q);
	puppet_mmio_write16(f->p, v->notify + puppet_mmio_read16(f->p, v->common + 0x1e) * v->notify_mul, q);
}

/* The used index and the length of its newest element. */
static uint16_t used(struct fix *f, unsigned q, uint32_t *len)
{
	uint8_t idx[2], e[8];
	uint16_t n;

	puppet_mem_read(f->p, ring_at(q) + 0x402, idx, 2);
	n = ld_le16(idx);
	puppet_mem_read(f->p, ring_at(q) + 0x404 + 8 * ((n - 1u) % QSIZE), e, 8);
	*len = ld_le32(e + 4);
	return n;
}

static void expect_msi(struct fix *f, uint32_t data)
{
	struct msi msg;

	assert_true(puppet_msi_taken(f->p, &msg));
	assert_int_equal(msg.addr, 0xfee00000);
	assert_int_equal(msg.data, data);
}

/* ---- tests ---- */

static void entropy_by_discovery(void **state)
{
	struct fix *f = *state;
	struct found v;
	uint32_t len;
	uint64_t bytes[4] = { 0 };

	probe(f, 0x1044, 0xc1000000, &v);
	bring_up(f, &v, 1);
	for (unsigned i = 1; i <= 20; i++) {
		push(f, &v, 0, DATA, 32, true);
		assert_int_equal(used(f, 0, &len), i);
		assert_int_equal(len, 32);
		expect_msi(f, 0x61);
	}
	puppet_mem_read(f->p, DATA, bytes, 32);
	assert_true(bytes[0] && bytes[1] && bytes[2] && bytes[3]);
	/* what runs goes on after a snapshot */
	puppet_save_load(f->p);
	assert_int_equal(puppet_mmio_read8(f->p, v.common + 0x14), 15);
	push(f, &v, 0, DATA, 8, true);
	assert_int_equal(used(f, 0, &len), 21);
	expect_msi(f, 0x61);
}

static void console_on_a_second_function(void **state)
{
	struct fix *f = *state;
	struct found v;
	char text[8] = "";
	uint32_t len;

	probe(f, 0x1043, 0x4000000000, &v);	/* above 4 GiB */
	assert_int_equal(v.devfn, PCI_DEVFN(5, 2));
	assert_int_equal(puppet_mmio_read32(f->p, v.device + 4), 1);
	bring_up(f, &v, 2);
	puppet_mem_write(f->p, DATA, "hello", 5);
	push(f, &v, 1, DATA, 5, false);
	assert_string_equal(f->out, "hello");
	expect_msi(f, 0x62);
	machine_lock(f->p->m);
	chardev_feed(f->chr, (const uint8_t *)"input", 5);
	machine_unlock(f->p->m);
	puppet_save_load(f->p);
	push(f, &v, 0, DATA, 16, true);
	puppet_settle(f->p);
	assert_int_equal(used(f, 0, &len), 1);
	assert_int_equal(len, 5);
	puppet_mem_read(f->p, DATA, text, 5);
	assert_string_equal(text, "input");
}

static void balloon_by_discovery(void **state)
{
	struct fix *f = *state;
	uint32_t pfn = 0x200000 / 4096, len, word = 0x12345678;
	struct found v;

	probe(f, 0x1045, 0xc2000000, &v);
	bring_up(f, &v, 2);
	puppet_mem_write(f->p, 0x200000, &word, 4);
	puppet_mem_write(f->p, DATA, &pfn, 4);
	push(f, &v, 0, DATA, 4, false);
	assert_int_equal(used(f, 0, &len), 1);
	puppet_mem_read(f->p, 0x200000, &word, 4);
	assert_int_equal(word, 0);
}

static void legacy_interrupt_when_msix_is_off(void **state)
{
	struct fix *f = *state;
	struct found v;
	struct msi msg;

	probe(f, 0x1044, 0xc1000000, &v);
	wr(f, &v, v.msix_cap + 2, 2, 0);
	bring_up(f, &v, 1);
	push(f, &v, 0, DATA, 32, true);
	assert_false(puppet_msi_taken(f->p, &msg));
	assert_true(puppet_wire_is_high(f->p, 3));	/* slot 3, pin A */
	puppet_save_load(f->p);
	assert_true(puppet_wire_is_high(f->p, 3));
	assert_int_equal(puppet_mmio_read8(f->p, v.isr), 1);
	assert_false(puppet_wire_is_high(f->p, 3));
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(entropy_by_discovery),
		T(console_on_a_second_function),
		T(balloon_by_discovery),
		T(legacy_interrupt_when_msix_is_off),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
