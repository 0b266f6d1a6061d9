/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Both transports and the status machine, with a device of two queues that
 * returns every buffer filled with 0x5a, and the entropy device.  Each test runs
 * over PCI and over MMIO.
 */
#include "driver.h"

#include <errno.h>
#include <stdlib.h>

#include "virtio/rng.h"

#define F_ODD (1ull << 3)
#define ALL ~0ull

struct echo {
	struct virtio_dev dev;
	struct vq_chain c;
	bool held;			/* keep chains: something is in flight */
	unsigned resets, queue_resets, starts, kicks, pauses, resumes;
	uint8_t config[16];
};

static struct echo *of(struct virtio_dev *d) { return container_of(d, struct echo, dev); }

static void echo_kick(struct virtio_dev *d, unsigned q)
{
	struct echo *x = of(d);
	int ret;

	x->kicks++;
	while ((ret = vq_get(&d->vq[q], &x->c)) > 0) {
		if (x->held)
			continue;
		for (unsigned i = x->c.n_read; i < (unsigned)x->c.n_read + x->c.n_write; i++)
			memset(x->c.iov[i].iov_base, 0x5a, x->c.iov[i].iov_len);
		vq_put(&d->vq[q], &x->c, x->c.len_write);
	}
	vq_flush(&d->vq[q]);
	if (ret < 0)
		virtio_dev_broken(d, "test");
}

static void echo_reset(struct virtio_dev *d) { of(d)->resets++; }
static void echo_queue_reset(struct virtio_dev *d, unsigned q) { of(d)->queue_resets++; }
static void echo_start(struct virtio_dev *d) { of(d)->starts++; }
static void echo_pause(struct virtio_dev *d) { of(d)->pauses++; }
static void echo_resume(struct virtio_dev *d) { of(d)->resumes++; }
static void echo_read(struct virtio_dev *d, uint32_t off, void *buf, unsigned len) { memcpy(buf, of(d)->config + off, len); }
static void echo_write(struct virtio_dev *d, uint32_t off, const void *buf, unsigned len) { memcpy(of(d)->config + off, buf, len); }
static void echo_free(struct virtio_dev *d)
{
	virtio_dev_fini(d);
	free(of(d));
}

static const struct virtio_dev_ops echo_ops = {
	.name = "virtio-echo", .device_id = 42, .pci_class = 0xff0000,
	.config_read = echo_read, .config_write = echo_write, .start = echo_start, .kick = echo_kick,
	.reset = echo_reset, .queue_reset = echo_queue_reset, .pause = echo_pause, .resume = echo_resume,
	.free = echo_free,
};

static struct echo *echo_new(struct machine *m)
{
	static const uint16_t sizes[] = { 64, 256 };
	struct echo *x = calloc(1, sizeof(*x));

	assert_int_equal(virtio_dev_init(&x->dev, m, &echo_ops, "echo0", F_ODD, 16, 2, sizes), 0);
	for (unsigned i = 0; i < 16; i++)
		x->config[i] = i;
	return x;
}

struct fix {
	struct drv d;
	struct echo *x;
};

static int setup(void **state, bool pci)
{
	struct fix *f = calloc(1, sizeof(*f));

	drv_machine(&f->d);
	f->x = echo_new(f->d.m);
	drv_plug(&f->d, &f->x->dev, pci);
	*state = f;
	return 0;
}

static int setup_pci(void **state) { return setup(state, true); }
static int setup_mmio(void **state) { return setup(state, false); }

static int teardown(void **state)
{
	struct fix *f = *state;

	drv_free(&f->d);
	free(f);
	return 0;
}

static unsigned round_trip(struct fix *f, unsigned q)
{
	struct ring_buf b[] = { { 0x1000, 4, true } };
	uint32_t id, len = 0, zero = 0;

	mem_write(f->d.m->mem, 0x1000, &zero, 4);
	ring_push(&f->d.ring[q], b, 1);
	drv_kick(&f->d, q);
	drv_poll(&f->d);
	if (!ring_used(&f->d.ring[q], &id, &len))
		return 0;
	mem_read(f->d.m->mem, 0x1000, &zero, 4);
	assert_int_equal(zero, 0x5a5a5a5a);
	return len;
}

static void acked(struct fix *f)
{
	if (f->d.pci) {
		f->d.n_msi = 0;
	} else {
		drv_wr(&f->d, DRV_MMIO + 0x64, 4, 3);
		assert_false(f->d.wire);
	}
}

static bool interrupted(struct fix *f, unsigned vector, unsigned isr)
{
	if (f->d.pci)
		return f->d.n_msi == 1 && f->d.msi_data == 0x40 + vector;
	return f->d.wire && drv_rd(&f->d, DRV_MMIO + 0x60, 4) == isr;
}

/* ---- both ---- */

static void a_request_makes_the_round(void **state)
{
	struct fix *f = *state;

	drv_start(&f->d, ALL, 16);
	assert_int_equal(f->x->starts, 1);
	for (unsigned q = 0; q < 2; q++) {
		assert_int_equal(round_trip(f, q), 4);
		assert_true(interrupted(f, q + 1, 1));
		acked(f);
	}
	/* again after a reset of the device by the driver, and of the machine */
	drv_start(&f->d, ALL, 16);
	assert_int_equal(round_trip(f, 1), 4);
	machine_lock(f->d.m);
	machine_reset_devs(f->d.m);
	if (f->d.root)
		pci_root_assign(f->d.root, (const uint8_t[4]){ 10, 10, 11, 11 });
	machine_unlock(f->d.m);
	if (f->d.pci)
		drv_wr(&f->d, DRV_CFG(4), 2, drv_rd(&f->d, DRV_CFG(4), 2) | PCI_COMMAND_MASTER);
	assert_int_equal(drv_status(&f->d), 0);
	drv_start(&f->d, ALL, 16);
	assert_int_equal(round_trip(f, 0), 4);
}

static void features_are_negotiated(void **state)
{
	struct fix *f = *state;
	struct drv *d = &f->d;

	assert_int_equal(drv_features(d), F_ODD | VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX |
						  VIRTIO_F_RING_RESET);
	drv_set_status(d, 3);
	drv_set_features(d, VIRTIO_F_VERSION_1 | 1ull << 7);	/* not offered */
	drv_set_status(d, 3 | VIRTIO_S_FEATURES_OK);
	assert_int_equal(drv_status(d), 3);
	drv_set_features(d, F_ODD);				/* legacy */
	drv_set_status(d, 3 | VIRTIO_S_FEATURES_OK);
	assert_int_equal(drv_status(d), 3);
	drv_set_status(d, 3 | VIRTIO_S_DRIVER_OK);		/* not before FEATURES_OK */
	assert_int_equal(drv_status(d), 3);
	assert_int_equal(f->x->starts, 0);
	drv_set_features(d, VIRTIO_F_VERSION_1 | F_ODD);
	drv_set_status(d, 3 | VIRTIO_S_FEATURES_OK);
	assert_int_equal(drv_status(d), 11);
	assert_true(virtio_has(&f->x->dev, F_ODD));
	assert_false(f->x->dev.vq[0].event_idx);
	drv_set_features(d, VIRTIO_F_VERSION_1);		/* too late */
	assert_true(virtio_has(&f->x->dev, F_ODD));
	drv_set_status(d, 1);					/* bits do not go away */
	assert_int_equal(drv_status(d), 11);
}

static void buffers_from_before_driver_ok_are_seen(void **state)
{
	struct fix *f = *state;
	struct ring_buf b[] = { { 0x1000, 4, true } };
	uint32_t id, len;

	drv_set_status(&f->d, 3);
	drv_set_features(&f->d, VIRTIO_F_VERSION_1);
	drv_set_status(&f->d, 11);
	drv_queue(&f->d, 0, 8);
	ring_push(&f->d.ring[0], b, 1);
	drv_kick(&f->d, 0);
	drv_poll(&f->d);
	assert_int_equal(f->x->kicks, 0);
	drv_set_status(&f->d, 15);
	drv_poll(&f->d);
	assert_true(ring_used(&f->d.ring[0], &id, &len));
}

static void nonsense_means_needs_reset(void **state)
{
	struct fix *f = *state;

	drv_start(&f->d, ALL, 16);
	ring_offer(&f->d.ring[0], 99);
	drv_kick(&f->d, 0);
	drv_poll(&f->d);
	assert_true(drv_status(&f->d) & VIRTIO_S_NEEDS_RESET);
	assert_true(interrupted(f, 0, 2));
	assert_int_equal(round_trip(f, 1), 0);		/* stopped, all queues */
	acked(f);
	drv_start(&f->d, ALL, 16);
	assert_int_equal(drv_status(&f->d), 15);
	assert_int_equal(round_trip(f, 1), 4);
}

static void bad_queue_setup_means_needs_reset(void **state)
{
	struct fix *f = *state;

	for (unsigned size = 0; size <= 3; size += 3) {
		drv_set_status(&f->d, 0);
		drv_set_status(&f->d, 3);
		drv_set_features(&f->d, VIRTIO_F_VERSION_1);
		drv_set_status(&f->d, 11);
		drv_select(&f->d, 0);
		drv_wr(&f->d, f->d.pci ? DRV_BAR + 0x18 : DRV_MMIO + 0x38, f->d.pci ? 2 : 4, size);
		drv_wr(&f->d, f->d.pci ? DRV_BAR + 0x1c : DRV_MMIO + 0x44, f->d.pci ? 2 : 4, 1);
		assert_true(drv_status(&f->d) & VIRTIO_S_NEEDS_RESET);
	}
	/* a queue outside memory */
	drv_set_status(&f->d, 0);
	drv_set_status(&f->d, 3);
	drv_set_features(&f->d, VIRTIO_F_VERSION_1);
	drv_set_status(&f->d, 11);
	drv_select(&f->d, 1);
	drv_addr(&f->d, 0x20, 0x80, DRV_RAM);
	drv_wr(&f->d, f->d.pci ? DRV_BAR + 0x1c : DRV_MMIO + 0x44, f->d.pci ? 2 : 4, 1);
	assert_true(drv_status(&f->d) & VIRTIO_S_NEEDS_RESET);
	drv_start(&f->d, ALL, 16);
	assert_int_equal(round_trip(f, 1), 4);
}

static void queue_beyond_the_last_does_not_exist(void **state)
{
	struct fix *f = *state;

	drv_select(&f->d, 2);
	assert_int_equal(drv_rd(&f->d, f->d.pci ? DRV_BAR + 0x18 : DRV_MMIO + 0x34, f->d.pci ? 2 : 4), 0);
	drv_queue(&f->d, 2, 16);
	drv_select(&f->d, 0xffff);
	drv_wr(&f->d, f->d.pci ? DRV_BAR + 0x1c : DRV_MMIO + 0x44, f->d.pci ? 2 : 4, 1);
	drv_kick(&f->d, 2);
	drv_kick(&f->d, 900);
	drv_poll(&f->d);
	drv_select(&f->d, 1);
	assert_int_equal(drv_rd(&f->d, f->d.pci ? DRV_BAR + 0x18 : DRV_MMIO + 0x34, f->d.pci ? 2 : 4), 256);
}

static void reset_in_mid_request(void **state)
{
	struct fix *f = *state;
	struct ring_buf b[] = { { 0x1000, 4, true } };
	uint32_t id, len;

	f->x->held = true;
	drv_start(&f->d, ALL, 16);
	ring_push(&f->d.ring[0], b, 1);
	drv_kick(&f->d, 0);
	drv_poll(&f->d);
	assert_int_equal(f->x->dev.vq[0].in_flight, 1);
	drv_set_status(&f->d, 0);
	assert_int_equal(f->x->resets, 2);
	assert_int_equal(drv_status(&f->d), 0);
	/* A completion that comes too late goes nowhere. */
	machine_lock(f->d.m);
	vq_put(&f->x->dev.vq[0], &f->x->c, 4);
	vq_flush(&f->x->dev.vq[0]);
	machine_unlock(f->d.m);
	assert_false(ring_used(&f->d.ring[0], &id, &len));
	f->x->held = false;
	drv_start(&f->d, ALL, 16);
	assert_int_equal(round_trip(f, 0), 4);
}

static void one_queue_is_reset_alone(void **state)
{
	struct fix *f = *state;
	uint64_t at = f->d.pci ? DRV_BAR + 0x3a : DRV_MMIO + 0xc0;
	unsigned len = f->d.pci ? 2 : 4;

	drv_start(&f->d, ALL, 16);
	assert_int_equal(round_trip(f, 0), 4);
	drv_select(&f->d, 0);
	drv_wr(&f->d, at, len, 1);
	assert_int_equal(drv_rd(&f->d, at, len), 0);		/* done */
	assert_int_equal(drv_rd(&f->d, f->d.pci ? DRV_BAR + 0x1c : DRV_MMIO + 0x44, len), 0);
	assert_int_equal(f->x->queue_resets, 1);
	assert_int_equal(f->x->pauses, 1);
	assert_int_equal(f->x->resumes, 1);
	assert_int_equal(round_trip(f, 1), 4);
	drv_queue(&f->d, 0, 8);					/* another size now */
	assert_int_equal(round_trip(f, 0), 4);
	assert_true(f->x->dev.vq[0].event_idx);
}

static void pause_holds_kicks_back(void **state)
{
	struct fix *f = *state;

	drv_start(&f->d, ALL, 16);
	machine_lock(f->d.m);
	machine_pause_devs(f->d.m);
	machine_unlock(f->d.m);
	assert_int_equal(round_trip(f, 0), 0);
	machine_lock(f->d.m);
	machine_resume_devs(f->d.m);
	machine_unlock(f->d.m);
	assert_int_equal(round_trip(f, 0), 4);
	assert_int_equal(ring_used_idx(&f->d.ring[0]), 2);
}

static void device_configuration_of_any_width(void **state)
{
	struct fix *f = *state;

	assert_int_equal(drv_config(&f->d, 0, 4), 0x03020100);
	assert_int_equal(drv_config(&f->d, 6, 2), 0x0706);
	assert_int_equal(drv_config(&f->d, 15, 1), 15);
	assert_int_equal(drv_config(&f->d, 16, 4), 0xffffffff);
	drv_config_write(&f->d, 4, 2, 0xbeef);
	assert_int_equal(drv_config(&f->d, 4, 4), 0x0706beef);
	drv_config_write(&f->d, 16, 4, 1);
	drv_config_write(&f->d, 300, 1, 1);
}

static void configuration_change_is_announced(void **state)
{
	struct fix *f = *state;
	uint64_t gen = f->d.pci ? DRV_BAR + 0x15 : DRV_MMIO + 0xfc, was;
	unsigned len = f->d.pci ? 1 : 4;

	drv_start(&f->d, ALL, 16);
	was = drv_rd(&f->d, gen, len);
	machine_lock(f->d.m);
	virtio_dev_config_changed(&f->x->dev);
	machine_unlock(f->d.m);
	assert_int_not_equal(drv_rd(&f->d, gen, len), was);
	assert_true(interrupted(f, 0, 2));
}

static void saved_state_goes_on(void **state)
{
	struct fix *f = *state, g = { 0 };
	const void *data;
	struct snap_out *o;
	struct snap_in *in;
	struct err e = { "" };
	size_t len;

	drv_start(&f->d, ALL, 16);
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(round_trip(f, 1), 4);
	machine_lock(f->d.m);
	machine_pause_devs(f->d.m);
	assert_int_equal(snap_out_new(&o), 0);
	assert_int_equal(machine_save_devs(f->d.m, o, NULL), 0);
	machine_unlock(f->d.m);
	data = snap_out_data(o, &len);

	drv_machine(&g.d);
	g.x = echo_new(g.d.m);
	drv_plug(&g.d, &g.x->dev, f->d.pci);
	for (unsigned q = 0; q < 2; q++) {
		g.d.ring[q] = f->d.ring[q];
		g.d.ring[q].mem = g.d.m->mem;
	}
	memcpy(mem_ram_host(g.d.m->mem), mem_ram_host(f->d.m->mem), DRV_RAM);
	machine_lock(g.d.m);
	machine_pause_devs(g.d.m);
	assert_int_equal(snap_in_new(&in, data, len), 0);
	assert_int_equal(machine_load_devs(g.d.m, in, &e), 0);
	machine_resume_devs(g.d.m);
	machine_unlock(g.d.m);
	assert_int_equal(drv_status(&g.d), 15);
	assert_int_equal(round_trip(&g, 1), 4);
	assert_int_equal(round_trip(&g, 0), 4);
	snap_in_free(in);
	snap_out_free(o);
	drv_free(&g.d);
}

static void damaged_saved_state_is_refused(void **state)
{
	struct fix *f = *state;
	struct snap_out *o;
	const uint8_t *data;
	size_t len;

	drv_start(&f->d, ALL, 16);
	machine_lock(f->d.m);
	machine_pause_devs(f->d.m);
	assert_int_equal(snap_out_new(&o), 0);
	assert_int_equal(machine_save_devs(f->d.m, o, NULL), 0);
	data = snap_out_data(o, &len);
	srand(3);
	for (unsigned i = 0; i < 300; i++) {
		uint8_t *bad = malloc(len);
		struct snap_in *in;
		struct err e;

		memcpy(bad, data, len);
		for (unsigned n = rand() % 20; n--;)
			bad[rand() % len] = rand();
		assert_int_equal(snap_in_new(&in, bad, rand() % 4 ? len : rand() % len), 0);
		machine_load_devs(f->d.m, in, &e);	/* any result, no crash */
		snap_in_free(in);
		free(bad);
	}
	machine_resume_devs(f->d.m);
	machine_unlock(f->d.m);
	drv_poll(&f->d);
	snap_out_free(o);
}

static void random_registers_are_survived(void **state)
{
	struct fix *f = *state;
	uint64_t base = f->d.pci ? DRV_BAR : DRV_MMIO, size = f->d.pci ? 0x8000 : 0x200;

	srand(4);
	drv_start(&f->d, ALL, 16);
	for (unsigned i = 0; i < 100000; i++) {
		unsigned len = 1u << rand() % 4;
		uint64_t off = rand() % 3 ? (uint64_t)rand() % 0x100 : (uint64_t)rand() % size;

		off = MIN(off, size - len) & ~(uint64_t)(rand() & 1 ? 0 : len - 1);
		if (rand() % 4)
			drv_wr(&f->d, base + off, len, rand() % 2 ? (uint64_t)rand() % 64 : (uint64_t)rand() << 12);
		else
			drv_rd(&f->d, base + off, len);
		if (f->d.pci && rand() % 8 == 0)
			drv_wr(&f->d, DRV_CFG(0x40 + rand() % 0xc0), 1 << rand() % 3, rand());
		if (rand() % 64 == 0)
			loop_turn(f->d.m->loop, 0);
		if (rand() % 5000 == 0)
			drv_start(&f->d, ALL, 1 << rand() % 7);
	}
	drv_start(&f->d, ALL, 16);
	assert_int_equal(round_trip(f, 0), 4);
}

/* ---- PCI only ---- */

static void capabilities_lead_to_the_registers(void **state)
{
	struct fix *f = *state;
	unsigned seen = 0;

	assert_int_equal(drv_rd(&f->d, DRV_CFG(0), 4), (0x1040u + 42) << 16 | 0x1af4);
	assert_int_equal(drv_rd(&f->d, DRV_CFG(8), 4), 0xff000001);
	for (unsigned at = drv_rd(&f->d, DRV_CFG(0x34), 1); at; at = drv_rd(&f->d, DRV_CFG(at + 1), 1)) {
		uint32_t off = drv_rd(&f->d, DRV_CFG(at + 8), 4), len = drv_rd(&f->d, DRV_CFG(at + 12), 4);
		unsigned type = drv_rd(&f->d, DRV_CFG(at + 3), 1);

		if (drv_rd(&f->d, DRV_CFG(at), 1) != 9)
			continue;
		seen |= BIT(type);
		if (type == 1)
			assert_true(off == 0 && len >= 0x3c);
		if (type == 2) {
			assert_int_equal(off, 0x3000);
			assert_int_equal(drv_rd(&f->d, DRV_CFG(at + 16), 4), 4);
			assert_true(len >= 8);
		}
		if (type == 3)
			assert_int_equal(off, 0x1000);
		if (type == 4)
			assert_true(off == 0x2000 && len == 16);
	}
	assert_int_equal(seen, 0x3e);
}

static void window_in_configuration_space(void **state)
{
	struct fix *f = *state;
	unsigned at, win = 0;

	for (at = drv_rd(&f->d, DRV_CFG(0x34), 1); at; at = drv_rd(&f->d, DRV_CFG(at + 1), 1))
		if (drv_rd(&f->d, DRV_CFG(at), 1) == 9 && drv_rd(&f->d, DRV_CFG(at + 3), 1) == 5)
			win = at;
	assert_true(win != 0);
	drv_wr(&f->d, DRV_CFG(4), 2, 0);		/* works with the BAR not decoded */
	drv_wr(&f->d, DRV_CFG(win + 4), 1, 0);
	drv_wr(&f->d, DRV_CFG(win + 8), 4, 0x2004);
	drv_wr(&f->d, DRV_CFG(win + 12), 4, 4);
	assert_int_equal(drv_rd(&f->d, DRV_CFG(win + 16), 4), 0x07060504);
	drv_wr(&f->d, DRV_CFG(win + 16), 4, 0x11223344);
	assert_int_equal(f->x->config[4], 0x44);
	drv_wr(&f->d, DRV_CFG(win + 8), 4, 0x14);
	drv_wr(&f->d, DRV_CFG(win + 12), 4, 1);
	drv_wr(&f->d, DRV_CFG(win + 16), 1, 3);
	assert_int_equal(f->x->dev.status, 3);
	assert_int_equal(drv_rd(&f->d, DRV_CFG(win + 16), 1), 3);
	/* outside the BAR, a wrong BAR, a wrong length: nothing happens */
	drv_wr(&f->d, DRV_CFG(win + 8), 4, 0xfffffffc);
	drv_wr(&f->d, DRV_CFG(win + 12), 4, 4);
	drv_wr(&f->d, DRV_CFG(win + 16), 4, 9);
	drv_rd(&f->d, DRV_CFG(win + 16), 4);
	drv_wr(&f->d, DRV_CFG(win + 12), 4, 3);
	drv_wr(&f->d, DRV_CFG(win + 16), 4, 9);
	assert_int_equal(f->x->dev.status, 3);
}

static void intx_without_msix(void **state)
{
	struct fix *f = *state;

	drv_start(&f->d, ALL, 16);
	drv_wr(&f->d, DRV_CFG(0x42), 2, 0);
	assert_int_equal(round_trip(f, 0), 4);
	assert_int_equal(f->d.n_msi, 0);
	assert_true(f->d.wire);
	assert_int_equal(drv_rd(&f->d, DRV_BAR + 0x1000, 1), 1);
	assert_false(f->d.wire);
	assert_int_equal(drv_rd(&f->d, DRV_BAR + 0x1000, 1), 0);
}

static void vectors_that_do_not_exist(void **state)
{
	struct fix *f = *state;

	drv_start(&f->d, ALL, 16);
	drv_select(&f->d, 0);
	drv_wr(&f->d, DRV_BAR + 0x1a, 2, 3);
	assert_int_equal(drv_rd(&f->d, DRV_BAR + 0x1a, 2), 0xffff);
	drv_wr(&f->d, DRV_BAR + 0x10, 2, 0x1234);
	assert_int_equal(drv_rd(&f->d, DRV_BAR + 0x10, 2), 0xffff);
	assert_int_equal(round_trip(f, 0), 4);
	assert_int_equal(f->d.n_msi, 0);
}

static void doorbell_follows_the_bar(void **state)
{
	struct fix *f = *state;
	struct ring_buf b[] = { { 0x1000, 4, true } };
	uint32_t id, len;

	drv_start(&f->d, ALL, 16);
	drv_wr(&f->d, DRV_CFG(0x10), 4, 0xc8000000);
	assert_true(bus_covers(f->d.m->mmio, 0xc8000000));
	assert_false(bus_covers(f->d.m->mmio, DRV_BAR + 0x3000));
	ring_push(&f->d.ring[1], b, 1);
	drv_wr(&f->d, 0xc8003004, 2, 1);
	drv_poll(&f->d);
	assert_true(ring_used(&f->d.ring[1], &id, &len));
}

/* ---- MMIO only ---- */

static void identification_registers(void **state)
{
	struct fix *f = *state;

	assert_int_equal(drv_rd(&f->d, DRV_MMIO, 4), 0x74726976);
	assert_int_equal(drv_rd(&f->d, DRV_MMIO + 4, 4), 2);
	assert_int_equal(drv_rd(&f->d, DRV_MMIO + 8, 4), 42);
	drv_wr(&f->d, DRV_MMIO + 0xac, 4, 0);
	for (unsigned off = 0xb0; off < 0xc0; off += 4)
		assert_int_equal(drv_rd(&f->d, DRV_MMIO + off, 4), 0xffffffff);
}

static void queue_ready_zero_stops_the_queue(void **state)
{
	struct fix *f = *state;

	drv_start(&f->d, ALL, 16);
	drv_select(&f->d, 0);
	drv_wr(&f->d, DRV_MMIO + 0x44, 4, 0);
	assert_int_equal(drv_rd(&f->d, DRV_MMIO + 0x44, 4), 0);
	assert_int_equal(round_trip(f, 0), 0);
	drv_queue(&f->d, 0, 16);
	assert_int_equal(round_trip(f, 0), 4);
}

static void taken_address_is_refused(void **state)
{
	struct fix *f = *state;
	struct echo *x = echo_new(f->d.m);
	struct irq none = { 0 };
	struct err e;

	assert_int_equal(virtio_mmio_new(f->d.m, DRV_MMIO, &none, &x->dev, &e), -EEXIST);
	assert_non_null(strstr(e.msg, "echo0"));
	echo_free(&x->dev);
}

/* ---- rng ---- */

static void rng_fill(struct drv *d, uint32_t len, uint32_t *got)
{
	struct ring_buf b[] = { { 0x2000, len / 2, true }, { 0x8000, len - len / 2, true } };
	uint32_t id;

	*got = 0;
	ring_push(&d->ring[0], b, 2);
	drv_kick(d, 0);
	drv_poll(d);
	ring_used(&d->ring[0], &id, got);
}

static void rng_gives_random_bytes(void **state)
{
	for (int pci = 0; pci < 2; pci++) {
		struct virtio_dev *dev;
		uint64_t v[8], zero = 0;
		struct drv d;
		uint32_t got;

		drv_machine(&d);
		assert_int_equal(virtio_rng_new(d.m, "rng0", &dev, NULL), 0);
		drv_plug(&d, dev, pci);
		drv_start(&d, ALL, 16);
		rng_fill(&d, 64, &got);
		assert_int_equal(got, 64);
		mem_read(d.m->mem, 0x2000, v, 32);
		mem_read(d.m->mem, 0x8000, v + 4, 32);
		for (unsigned i = 0; i < 8; i++)
			zero |= v[i] == 0;
		assert_false(zero);
		rng_fill(&d, 40000, &got);		/* a giant buffer gets a part */
		assert_int_equal(got, 16384);
		drv_free(&d);
	}
}

static void rng_keeps_to_its_rate(void **state)
{
	struct virtio_dev *dev;
	struct drv d;
	uint32_t got, id;

	drv_machine(&d);
	assert_int_equal(virtio_rng_new(d.m, "rng0", &dev, NULL), 0);
	virtio_rng_set_rate(dev, 100, 1000);
	drv_plug(&d, dev, true);
	drv_start(&d, ALL, 16);
	rng_fill(&d, 64, &got);
	assert_int_equal(got, 64);
	rng_fill(&d, 64, &got);
	assert_int_equal(got, 36);
	rng_fill(&d, 64, &got);
	assert_int_equal(got, 0);
	machine_lock(d.m);
	clock_step(d.m->clock, 999999999);
	machine_unlock(d.m);
	drv_poll(&d);
	assert_false(ring_used(&d.ring[0], &id, &got));
	machine_lock(d.m);
	clock_step(d.m->clock, 1);
	machine_unlock(d.m);
	assert_true(ring_used(&d.ring[0], &id, &got));
	assert_int_equal(got, 64);
	drv_free(&d);
}

#define P(fn) { #fn " (pci)", fn, setup_pci, teardown, NULL }
#define M(fn) { #fn " (mmio)", fn, setup_mmio, teardown, NULL }
#define B(fn) P(fn), M(fn)

int main(void)
{
	const struct CMUnitTest tests[] = {
		B(a_request_makes_the_round),
		B(features_are_negotiated),
		B(buffers_from_before_driver_ok_are_seen),
		B(nonsense_means_needs_reset),
		B(bad_queue_setup_means_needs_reset),
		B(queue_beyond_the_last_does_not_exist),
		B(reset_in_mid_request),
		B(one_queue_is_reset_alone),
		B(pause_holds_kicks_back),
		B(device_configuration_of_any_width),
		B(configuration_change_is_announced),
		B(saved_state_goes_on),
		B(damaged_saved_state_is_refused),
		B(random_registers_are_survived),
		P(capabilities_lead_to_the_registers),
		P(window_in_configuration_space),
		P(intx_without_msix),
		P(vectors_that_do_not_exist),
		P(doorbell_follows_the_bar),
		M(identification_registers),
		M(queue_ready_zero_stops_the_queue),
		M(taken_address_is_refused),
		cmocka_unit_test(rng_gives_random_bytes),
		cmocka_unit_test(rng_keeps_to_its_rate),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
