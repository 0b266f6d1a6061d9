/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Memory that comes and goes: the map has the blocks that are plugged and no others, whatever the driver asks for. */
#define DRV_RESERVE (512ull << 20)
#include "driver.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "machine/snap.h"
#include "virtio/mem.h"

#define MIB (1ull << 20)
#define BLOCK (2 * MIB)
#define SIZE (512 * MIB)
#define GPA (4ull << 30)

enum { PLUG, UNPLUG, UNPLUG_ALL, STATE };
enum { ACK, NACK, BUSY, ERROR };
enum { IS_PLUGGED, IS_UNPLUGGED, IS_MIXED };

struct fix {
	struct drv d;
	struct virtio_dev *dev;
	unsigned events;
};

static void on_event(void *opaque, enum machine_event ev, int64_t value)
{
	assert_int_equal(ev, MACHINE_EV_MEMORY_SIZE);
	assert_int_equal(value, 5);
	((struct fix *)opaque)->events++;
}

static const struct virtio_mem_opts opts = { .name = "vm0", .gpa = GPA, .offset = DRV_RAM, .size = SIZE, .block_size = BLOCK, .node = 3, .number = 5 };

static int setup(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));

	drv_machine(&f->d);
	f->d.m->event = on_event;
	f->d.m->event_opaque = f;
	assert_int_equal(virtio_mem_new(f->d.m, "vm0", &opts, &f->dev, NULL), 0);
	drv_plug(&f->d, f->dev, true);
	drv_start(&f->d, ~0ull, 16);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	drv_free(&f->d);
	free(f);
	return 0;
}

static void want(struct fix *f, uint64_t bytes)
{
	struct err e = { "" };

	machine_lock(f->d.m);
	assert_int_equal(virtio_mem_request(f->dev, bytes, &e), 0);
	machine_unlock(f->d.m);
}

/* The answer's type, and the state in the bits above. */
static unsigned ask(struct fix *f, unsigned type, uint64_t addr, unsigned n)
{
	struct ring_buf b[] = { { 0x8000, 24, false }, { 0x9000, 10, true } };
	uint8_t req[24] = { 0 }, resp[10];
	uint32_t id, len;

	st_le16(req, (uint16_t)type);
	st_le64(req + 8, addr);
	st_le16(req + 16, (uint16_t)n);
	mem_write(f->d.m->mem, 0x8000, req, sizeof(req));
	memset(resp, 0xff, sizeof(resp));
	mem_write(f->d.m->mem, 0x9000, resp, sizeof(resp));
	ring_push(&f->d.ring[0], b, 2);
	drv_kick(&f->d, 0);
	drv_poll(&f->d);
	assert_true(ring_used(&f->d.ring[0], &id, &len));
	assert_int_equal(len, 10);
	mem_read(f->d.m->mem, 0x9000, resp, sizeof(resp));
	return ld_le16(resp) | (unsigned)ld_le16(resp + 8) << 16;
}

static uint64_t plugged(struct fix *f)
{
	struct virtio_mem_info i;

	virtio_mem_get(f->dev, &i);
	assert_int_equal(drv_config(&f->d, 40, 4), (uint32_t)i.plugged);
	return i.plugged;
}

static bool there(struct fix *f, uint64_t block)
{
	uint8_t b;
	bool first = !mem_read(f->d.m->mem, GPA + block * BLOCK, &b, 1);

	assert_int_equal(first, !mem_read(f->d.m->mem, GPA + (block + 1) * BLOCK - 1, &b, 1));
	return first;
}

static void configuration(void **state)
{
	struct fix *f = *state;

	assert_true(f->dev->driver_features & 3);
	assert_int_equal(drv_config(&f->d, 0, 4), BLOCK);
	assert_int_equal(drv_config(&f->d, 8, 2), 3);
	assert_int_equal(drv_config(&f->d, 16, 4) | drv_config(&f->d, 20, 4) << 32, GPA);
	assert_int_equal(drv_config(&f->d, 24, 4), SIZE);
	assert_int_equal(drv_config(&f->d, 32, 4), 0);		/* usable */
	f->d.n_msi = 0;
	want(f, 64 * MIB);
	assert_int_equal(f->d.n_msi, 1);
	assert_int_equal(drv_config(&f->d, 48, 4), 64 * MIB);
	assert_int_equal(drv_config(&f->d, 32, 4), (64 + 256) * MIB);
	want(f, 64 * MIB);
	assert_int_equal(f->d.n_msi, 1);			/* nothing new */
	want(f, SIZE);
	assert_int_equal(drv_config(&f->d, 32, 4), SIZE);
	want(f, 0);
	assert_int_equal(drv_config(&f->d, 32, 4), SIZE);	/* shrinks when all is unplugged */
	assert_int_equal(ask(f, UNPLUG_ALL, 0, 0), ACK);
	assert_int_equal(drv_config(&f->d, 32, 4), 0);
	drv_config_write(&f->d, 48, 4, 0x1000000);		/* not the driver's to write */
	assert_int_equal(drv_config(&f->d, 48, 4), 0);
}

static void sizes_that_make_no_sense(void **state)
{
	struct fix *f = *state;
	struct err e = { "" };

	assert_int_equal(virtio_mem_check(SIZE, 3 * MIB, 0, &e), -EINVAL);
	assert_int_equal(virtio_mem_check(SIZE, MIB / 2, 0, &e), -EINVAL);
	assert_int_equal(virtio_mem_check(SIZE, 0, 0, &e), -EINVAL);
	assert_int_equal(virtio_mem_check(0, BLOCK, 0, &e), -EINVAL);
	assert_int_equal(virtio_mem_check(SIZE + MIB, BLOCK, 0, &e), -EINVAL);
	machine_lock(f->d.m);
	assert_int_equal(virtio_mem_request(f->dev, SIZE + BLOCK, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "cannot exceed"));
	assert_int_equal(virtio_mem_request(f->dev, MIB, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "multiples of 'block-size'"));
	machine_unlock(f->d.m);
}

static void blocks_come_and_go(void **state)
{
	struct fix *f = *state;
	uint64_t word = 0x1122334455667788, back;
	struct stat before, after;

	want(f, 64 * MIB);
	assert_false(there(f, 0));
	assert_int_equal(ask(f, PLUG, GPA, 16), ACK);
	assert_int_equal(ask(f, PLUG, GPA + 20 * BLOCK, 4), ACK);
	assert_int_equal(plugged(f), 20 * BLOCK);
	assert_int_equal(f->events, 2);
	for (unsigned i = 0; i < 32; i++)
		assert_int_equal(there(f, i), i < 16 || (i >= 20 && i < 24));
	assert_int_equal(ask(f, STATE, GPA, 16), ACK | IS_PLUGGED << 16);
	assert_int_equal(ask(f, STATE, GPA + 16 * BLOCK, 4), ACK | IS_UNPLUGGED << 16);
	assert_int_equal(ask(f, STATE, GPA + 15 * BLOCK, 2), ACK | IS_MIXED << 16);
	assert_int_equal(ask(f, STATE, GPA, 100), ACK | IS_MIXED << 16);

	/* Out of the middle; what is beside it stays. */
	memset(mem_ram_host(f->d.m->mem) + DRV_RAM, 0x5a, 16 * BLOCK);
	assert_int_equal(mem_write(f->d.m->mem, GPA + 4 * BLOCK - 8, &word, 8), 0);
	fstat(mem_ram_fd(f->d.m->mem), &before);
	assert_int_equal(ask(f, UNPLUG, GPA + 4 * BLOCK, 8), ACK);
	fstat(mem_ram_fd(f->d.m->mem), &after);
	assert_true((uint64_t)(before.st_blocks - after.st_blocks) * 512 >= 8 * BLOCK - 64 * 1024);
	assert_false(there(f, 4));
	assert_false(there(f, 11));
	assert_int_equal(mem_read(f->d.m->mem, GPA + 4 * BLOCK - 8, &back, 8), 0);
	assert_int_equal(back, word);
	assert_int_equal(mem_read(f->d.m->mem, GPA + 12 * BLOCK, &back, 8), 0);
	assert_int_equal(back, 0x5a5a5a5a5a5a5a5a);
	/* A vCPU that has not heard of it writes there still; what comes again is zero. */
	mem_ram_host(f->d.m->mem)[DRV_RAM + 5 * BLOCK] = 1;
	assert_int_equal(ask(f, PLUG, GPA + 4 * BLOCK, 8), ACK);
	assert_int_equal(mem_read(f->d.m->mem, GPA + 5 * BLOCK, &back, 8), 0);
	assert_int_equal(back, 0);
	assert_int_equal(ask(f, UNPLUG_ALL, 1, 2), ACK);	/* the other fields mean nothing */
	assert_int_equal(plugged(f), 0);
	assert_false(there(f, 0));
}

static void requests_that_are_wrong(void **state)
{
	struct fix *f = *state;

	want(f, 64 * MIB);		/* 160 blocks may be used, 32 be plugged */
	assert_int_equal(ask(f, PLUG, GPA + BLOCK, 2), ACK);
	assert_int_equal(ask(f, PLUG, GPA + BLOCK, 1), ERROR);			/* twice */
	assert_int_equal(ask(f, PLUG, GPA, 2), ERROR);				/* overlapping */
	assert_int_equal(ask(f, PLUG, GPA + 2 * BLOCK, 2), ERROR);
	assert_int_equal(ask(f, PLUG, GPA, 4), ERROR);
	assert_int_equal(ask(f, UNPLUG, GPA, 2), ERROR);
	assert_int_equal(ask(f, UNPLUG, GPA + 2 * BLOCK, 2), ERROR);
	assert_int_equal(ask(f, UNPLUG, GPA + 5 * BLOCK, 1), ERROR);
	for (unsigned type = PLUG; type <= STATE; type++) {
		if (type == UNPLUG_ALL)
			continue;
		assert_int_equal(ask(f, type, GPA - BLOCK, 1), ERROR);		/* outside */
		assert_int_equal(ask(f, type, 0, 1), ERROR);
		assert_int_equal(ask(f, type, GPA + 160 * BLOCK, 1), ERROR);
		assert_int_equal(ask(f, type, GPA + 159 * BLOCK, 2), ERROR);
		assert_int_equal(ask(f, type, UINT64_MAX - BLOCK + 1, 1), ERROR);
		assert_int_equal(ask(f, type, GPA, 65535), ERROR);
		assert_int_equal(ask(f, type, GPA + 4096, 1), ERROR);		/* no block begins there */
		assert_int_equal(ask(f, type, GPA, 0), ERROR);
	}
	assert_int_equal(ask(f, PLUG, GPA + 10 * BLOCK, 31), NACK);		/* more than requested */
	assert_int_equal(ask(f, PLUG, GPA + 10 * BLOCK, 30), ACK);
	assert_int_equal(ask(f, PLUG, GPA + 100 * BLOCK, 1), NACK);
	want(f, 2 * BLOCK);
	assert_int_equal(ask(f, PLUG, GPA + 100 * BLOCK, 1), NACK);		/* less than there is already */
	assert_int_equal(plugged(f), 32 * BLOCK);
	assert_int_equal(drv_status(&f->d), 15);
}

static void broken(struct fix *f, unsigned type, unsigned len, unsigned space)
{
	struct ring_buf b[] = { { 0x8000, len, false }, { 0x9000, space, true } };
	uint8_t req[24] = { 0 };

	st_le16(req, (uint16_t)type);
	mem_write(f->d.m->mem, 0x8000, req, sizeof(req));
	ring_push(&f->d.ring[0], b, 2);
	drv_kick(&f->d, 0);
	drv_poll(&f->d);
	assert_true(drv_status(&f->d) & VIRTIO_S_NEEDS_RESET);
	drv_start(&f->d, ~0ull, 16);
}

static void requests_that_are_none(void **state)
{
	struct fix *f = *state;

	want(f, 64 * MIB);
	assert_int_equal(ask(f, PLUG, GPA, 3), ACK);
	broken(f, 4, 24, 10);
	broken(f, PLUG, 23, 10);
	broken(f, PLUG, 24, 9);
	/* Resetting the device unplugs nothing; resetting the machine does. */
	assert_int_equal(plugged(f), 3 * BLOCK);
	assert_true(there(f, 2));
	machine_lock(f->d.m);
	virtio_mem_machine_reset(f->dev);
	machine_unlock(f->d.m);
	assert_int_equal(plugged(f), 0);
	assert_false(there(f, 2));
	assert_int_equal(drv_config(&f->d, 48, 4), 64 * MIB);
}

/* A ring in memory that goes: the device needs a reset, and no more. */
static void the_ring_goes(void **state)
{
	struct fix *f = *state;
	uint64_t used = f->d.ring[0].used;
	uint8_t req[24] = { 0 };

	want(f, 64 * MIB);
	assert_int_equal(ask(f, PLUG, GPA, 3), ACK);
	drv_set_status(&f->d, 0);
	drv_start(&f->d, ~0ull, 16);
	drv_select(&f->d, 0);
	drv_wr(&f->d, DRV_BAR + 0x1c, 2, 0);
	drv_set_status(&f->d, 0);
	drv_set_status(&f->d, 3);
	drv_set_features(&f->d, drv_features(&f->d));
	drv_set_status(&f->d, 11);
	drv_queue(&f->d, 0, 16);
	drv_set_status(&f->d, 0);
	drv_set_status(&f->d, 3);
	drv_set_features(&f->d, drv_features(&f->d));
	drv_set_status(&f->d, 11);
	ring_init(&f->d.ring[0], f->d.m->mem, GPA + BLOCK, 16);
	assert_int_not_equal(f->d.ring[0].used, used);
	drv_wr(&f->d, DRV_BAR + 0x18, 2, 16);
	drv_addr(&f->d, 0x20, 0, f->d.ring[0].desc);
	drv_addr(&f->d, 0x28, 0, f->d.ring[0].avail);
	drv_addr(&f->d, 0x30, 0, f->d.ring[0].used);
	drv_wr(&f->d, DRV_BAR + 0x1c, 2, 1);
	drv_set_status(&f->d, 15);
	st_le16(req, UNPLUG_ALL);
	mem_write(f->d.m->mem, 0x8000, req, sizeof(req));
	ring_push(&f->d.ring[0], (struct ring_buf[]){ { 0x8000, 24, false }, { GPA, 10, true } }, 2);
	drv_kick(&f->d, 0);
	drv_poll(&f->d);
	assert_true(drv_status(&f->d) & VIRTIO_S_NEEDS_RESET);
	assert_false(there(f, 1));
}

static void save(struct fix *f, struct snap_out **o)
{
	assert_int_equal(snap_out_new(o), 0);
	machine_lock(f->d.m);
	machine_pause_devs(f->d.m);
	assert_int_equal(machine_save_devs(f->d.m, *o, NULL), 0);
	machine_resume_devs(f->d.m);
	machine_unlock(f->d.m);
}

static int load(struct fix *f, const struct snap_out *o, bool go_on, struct err *e)
{
	const void *data;
	struct snap_in *in;
	size_t len;
	int ret;

	data = snap_out_data(o, &len);
	assert_int_equal(snap_in_new(&in, data, len), 0);
	machine_lock(f->d.m);
	machine_pause_devs(f->d.m);
	ret = machine_load_devs(f->d.m, in, e);
	if (go_on)
		machine_resume_devs(f->d.m);
	machine_unlock(f->d.m);
	snap_in_free(in);
	return ret;
}

/* State that is loaded, taken back, and loaded again: memory is given up when the guest goes on, and not before. */
static void saved_and_loaded(void **state)
{
	struct fix *f = *state;
	uint8_t *ram = mem_ram_host(f->d.m->mem) + DRV_RAM;
	const uint16_t harmless = STATE;
	struct snap_out *few, *many;
	struct err e = { "" };

	want(f, 64 * MIB);
	assert_int_equal(ask(f, PLUG, GPA + BLOCK, 2), ACK);
	save(f, &few);
	want(f, 128 * MIB);
	assert_int_equal(ask(f, PLUG, GPA + 4 * BLOCK, 3), ACK);
	ram[5 * BLOCK] = 0x11;
	save(f, &many);
	mem_write(f->d.m->mem, 0x8000, &harmless, 2);	/* the ring, which is not saved here, has what came since */
	assert_int_equal(load(f, few, false, &e), 0);
	assert_int_equal(plugged(f), 2 * BLOCK);
	assert_false(there(f, 5));
	assert_int_equal(load(f, many, true, &e), 0);
	assert_int_equal(plugged(f), 5 * BLOCK);
	assert_true(there(f, 5));
	assert_int_equal(ram[5 * BLOCK], 0x11);
	assert_int_equal(drv_config(&f->d, 48, 4), 128 * MIB);
	assert_int_equal(load(f, few, true, &e), 0);
	assert_int_equal(ram[5 * BLOCK], 0);
	assert_false(there(f, 5));
	drv_start(&f->d, ~0ull, 16);
	assert_int_equal(ask(f, PLUG, GPA + 4 * BLOCK, 1), ACK);
	snap_out_free(few);
	snap_out_free(many);
}

/* Saved state comes from a file: each byte of the device's own changed, nothing is plugged where nothing may be. */
static void damaged_state(void **state)
{
	struct fix *f = *state;
	struct err e = { "" };
	struct virtio_mem_info i;
	struct snap_out *o, *now;
	const uint8_t *good;
	size_t len, at = 0;

	want(f, 64 * MIB);
	assert_int_equal(ask(f, PLUG, GPA + BLOCK, 2), ACK);
	save(f, &o);
	good = snap_out_data(o, &len);
	while (memcmp(good + at, "block_size", 10) != 0)
		at++;
	for (size_t n = at; n < len; n++) {
		uint8_t *bytes = malloc(len);
		struct snap_in *in;
		int ret;

		memcpy(bytes, good, len);
		bytes[n] ^= (uint8_t)(1u << n % 8);
		assert_int_equal(snap_in_new(&in, bytes, len), 0);
		machine_lock(f->d.m);
		machine_pause_devs(f->d.m);
		ret = machine_load_devs(f->d.m, in, &e);
		virtio_mem_get(f->dev, &i);
		assert_true(i.plugged <= i.usable && i.usable <= SIZE && i.requested <= SIZE && i.usable % BLOCK == 0);
		assert_true(ret == 0 || e.msg[0]);
		machine_resume_devs(f->d.m);
		machine_unlock(f->d.m);
		snap_in_free(in);
		free(bytes);
		assert_int_equal(load(f, o, true, &e), 0);
		assert_int_equal(plugged(f), 2 * BLOCK);
		assert_true(there(f, 1) && there(f, 2) && !there(f, 3) && !there(f, 0));
	}
	save(f, &now);
	snap_out_free(now);
	snap_out_free(o);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(configuration),
		T(sizes_that_make_no_sense),
		T(blocks_come_and_go),
		T(requests_that_are_wrong),
		T(requests_that_are_none),
		T(the_ring_goes),
		T(saved_and_loaded),
		T(damaged_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
