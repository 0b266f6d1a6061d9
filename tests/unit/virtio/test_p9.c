// SPDX-License-Identifier: GPL-2.0-or-later
/* virtio-9p by its registers and its ring; what it carries is tested in tests/unit/p9. */
#include "driver.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "p9/wire.h"
#include "virtio/p9.h"

#define ALL ~0ull
#define IN 0x200000ull
#define OUT 0x300000ull

struct fix {
	struct drv d;
	struct virtio_dev *dev;
	char dir[64];
	uint8_t msg[512], *p;
};

static struct virtio_dev *device(struct fix *f, struct machine *m, unsigned threads)
{
	struct p9_opts o = { .path = f->dir, .name = "t", .max_threads = threads };
	struct virtio_dev *dev;
	struct p9 *s;
	struct err e;

	assert_int_equal(p9_new(&o, &s, &e), 0);
	assert_int_equal(virtio_p9_new(m, "share0", s, "mytag", &dev, &e), 0);
	return dev;
}

static int setup(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));

	strcpy(f->dir, "/tmp/lodge-vp9-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	drv_machine(&f->d);
	f->dev = device(f, f->d.m, 2);
	drv_plug(&f->d, f->dev, true);
	drv_start(&f->d, ALL, 64);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;
	char cmd[128];

	drv_free(&f->d);
	snprintf(cmd, sizeof(cmd), "rm -r %s", f->dir);
	assert_int_equal(system(cmd), 0);
	free(f);
	return 0;
}

static void begin(struct fix *f, uint8_t type)
{
	f->msg[4] = type;
	st_le16(f->msg + 5, 9);
	f->p = f->msg + P9_HEADER;
}

static void n(struct fix *f, unsigned len, uint64_t v)
{
	st_le(f->p, len, v);
	f->p += len;
}

static void text(struct fix *f, const char *s)
{
	n(f, 2, strlen(s));
	memcpy(f->p, s, strlen(s));
	f->p += strlen(s);
}

static bool used(struct fix *f, uint32_t *len)
{
	uint32_t id;

	for (unsigned i = 0; i < 2000; i++) {
		drv_poll(&f->d);
		if (ring_used(&f->d.ring[0], &id, len))
			return true;
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
	return false;
}

static void push(struct fix *f, uint32_t room)
{
	uint32_t len = (uint32_t)(f->p - f->msg);
	/* The message in two pieces, and the answer in three. */
	struct ring_buf b[] = { { IN, 5, false }, { IN + 5, len - 5, false }, { OUT, 3, true }, { OUT + 3, 9, true }, { OUT + 12, room - 12, true } };

	st_le32(f->msg, len);
	mem_write(f->d.m->mem, IN, f->msg, len);
	ring_push(&f->d.ring[0], b, 5);
	drv_kick(&f->d, 0);
}

/* The answer's type; its bytes in msg. */
static uint8_t send(struct fix *f)
{
	uint32_t len;

	push(f, 400);
	assert_true(used(f, &len));
	assert_true(len >= P9_HEADER && len <= 400);
	mem_read(f->d.m->mem, OUT, f->msg, len);
	assert_int_equal(ld_le32(f->msg), len);
	return f->msg[4];
}

static void mount(struct fix *f)
{
	begin(f, TVERSION);
	n(f, 4, 8192);
	text(f, "9P2000.L");
	assert_int_equal(send(f), TVERSION + 1);
	begin(f, TATTACH);
	n(f, 4, 0);
	n(f, 4, P9_NOFID);
	text(f, "");
	text(f, "");
	n(f, 4, 0);
	assert_int_equal(send(f), TATTACH + 1);
}

static void getattr(struct fix *f)
{
	begin(f, TGETATTR);
	n(f, 4, 0);
	n(f, 8, P9_STATS_BASIC);
}

static void the_tag_is_there_and_messages_are_answered(void **state)
{
	struct fix *f = *state;

	assert_true(drv_features(&f->d) & 1);
	assert_int_equal(drv_config(&f->d, 0, 2), 5);
	assert_int_equal(drv_config(&f->d, 2, 1), 'm');
	assert_int_equal(drv_config(&f->d, 6, 1), 'g');
	mount(f);
	assert_true(f->d.n_msi > 0);
	begin(f, TMKDIR);
	n(f, 4, 0);
	text(f, "d");
	n(f, 4, 0755);
	n(f, 4, 0);
	assert_int_equal(send(f), TMKDIR + 1);
	getattr(f);
	assert_int_equal(send(f), TGETATTR + 1);
	begin(f, 200);
	assert_int_equal(send(f), RLERROR);
	assert_int_equal(ld_le32(f->msg + 7), EOPNOTSUPP);
}

static void nonsense_breaks_the_device(void **state)
{
	struct fix *f = *state;
	const struct {
		uint32_t in, out, size;
	} bad[] = {
		{ 6, 64, 7 }, { 7, 10, 7 }, { 20, 64, 21 }, { 20, 64, 6 }, { P9_MSIZE_MAX + 1, 64, 20 },
	};

	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		struct ring_buf b[] = { { IN, bad[i].in, false }, { OUT, bad[i].out, true } };

		begin(f, TVERSION);
		st_le32(f->msg, bad[i].size);
		mem_write(f->d.m->mem, IN, f->msg, 20);
		ring_push(&f->d.ring[0], b, 2);
		drv_kick(&f->d, 0);
		drv_poll(&f->d);
		assert_true(drv_status(&f->d) & VIRTIO_S_NEEDS_RESET);
		drv_start(&f->d, ALL, 64);
		mount(f);
	}
}

/* What began before a reset writes nowhere after it. */
static void reset_forgets_what_is_under_way(void **state)
{
	struct fix *f = *state;
	uint8_t byte = 0x5a;
	uint32_t len;

	mount(f);
	for (unsigned i = 0; i < 20; i++) {
		getattr(f);
		push(f, 400);
		loop_turn(f->d.m->loop, 0);
		drv_set_status(&f->d, 0);
		mem_write(f->d.m->mem, OUT, &byte, 1);
		drv_start(&f->d, ALL, 64);
		drv_poll(&f->d);
		mem_read(f->d.m->mem, OUT, &byte, 1);
		assert_int_equal(byte, 0x5a);
		/* The session is another. */
		getattr(f);
		push(f, 400);
		assert_true(used(f, &len));
		assert_int_equal(len, P9_ERROR_SIZE);
		mount(f);
	}
}

/* Saved in mid-operation, with requests in the ring that the device has not seen: the other one answers them. */
static void state_goes_to_another_device(void **state)
{
	struct fix *f = *state;
	struct snap_out *o;
	struct snap_in *in;
	const void *p;
	size_t size;
	uint32_t len;
	struct err e;

	mount(f);
	begin(f, TMKDIR);
	n(f, 4, 0);
	text(f, "d");
	n(f, 4, 0755);
	n(f, 4, 0);
	assert_int_equal(send(f), TMKDIR + 1);
	begin(f, TWALK);
	n(f, 4, 0);
	n(f, 4, 5);
	n(f, 2, 1);
	text(f, "d");
	assert_int_equal(send(f), TWALK + 1);
	getattr(f);
	push(f, 400);
	machine_lock(f->d.m);
	machine_pause_devs(f->d.m);
	assert_int_equal(snap_out_new(&o), 0);
	assert_int_equal(machine_save_devs(f->d.m, o, NULL), 0);
	p = snap_out_data(o, &size);
	assert_int_equal(snap_in_new(&in, p, size), 0);
	machine_reset_devs(f->d.m);
	assert_int_equal(machine_load_devs(f->d.m, in, &e), 0);
	machine_resume_devs(f->d.m);
	machine_unlock(f->d.m);
	snap_in_free(in);
	snap_out_free(o);
	assert_true(used(f, &len));
	assert_true(len > P9_ERROR_SIZE);
	begin(f, TGETATTR);
	n(f, 4, 5);
	n(f, 8, 0);
	assert_int_equal(send(f), TGETATTR + 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_tag_is_there_and_messages_are_answered, setup, teardown),
		cmocka_unit_test_setup_teardown(nonsense_breaks_the_device, setup, teardown),
		cmocka_unit_test_setup_teardown(reset_forgets_what_is_under_way, setup, teardown),
		cmocka_unit_test_setup_teardown(state_goes_to_another_device, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
