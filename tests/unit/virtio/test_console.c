/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The console device: data and flow control both ways, ports, names, resize. */
#include "driver.h"

#include <errno.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "chardev/chardev.h"
#include "virtio/console.h"

#define ALL ~0ull
#define F_SIZE 1ull
#define F_MULTIPORT 2ull

enum { DEVICE_READY, PORT_ADD, PORT_REMOVE, PORT_READY, CONSOLE_PORT, RESIZE, PORT_OPEN, PORT_NAME };

struct fix {
	struct drv d;
	struct virtio_dev *dev;
	struct chardev *chr[2];
	char out[2][1 << 17];
	size_t n_out[2];
};

static void sink0(void *opaque, const uint8_t *p, size_t n)
{
	struct fix *f = opaque;

	assert_true(f->n_out[0] + n <= sizeof(f->out[0]));
	memcpy(f->out[0] + f->n_out[0], p, n);
	f->n_out[0] += n;
}

static void sink1(void *opaque, const uint8_t *p, size_t n)
{
	struct fix *f = opaque;

	memcpy(f->out[1] + f->n_out[1], p, n);
	f->n_out[1] += n;
}

static int setup(void **state, bool multiport, bool pci)
{
	struct fix *f = calloc(1, sizeof(*f));
	struct virtio_console_port ports[2] = { { .console = true }, { .name = "org.lodge.agent" } };

	drv_machine(&f->d);
	assert_int_equal(chardev_pipe_new(f->d.m->loop, sink0, f, &f->chr[0]), 0);
	assert_int_equal(chardev_pipe_new(f->d.m->loop, sink1, f, &f->chr[1]), 0);
	ports[0].chr = f->chr[0];
	ports[1].chr = f->chr[1];
	assert_int_equal(virtio_console_new(f->d.m, "con0", ports, multiport ? 2 : 1, multiport, &f->dev, NULL), 0);
	drv_plug(&f->d, f->dev, pci);
	drv_start(&f->d, ALL, 8);
	*state = f;
	return 0;
}

static int setup_single(void **state) { return setup(state, false, true); }
static int setup_multi(void **state) { return setup(state, true, true); }
static int setup_multi_mmio(void **state) { return setup(state, true, false); }

static int teardown(void **state)
{
	struct fix *f = *state;
	struct chardev *a = f->chr[0], *b = f->chr[1];
	struct drv d = f->d;

	machine_lock(d.m);
	while (!list_empty(&d.m->devs)) {
		struct dev *dev = list_entry(d.m->devs.prev, struct dev, node);

		dev->ops->free(dev);
	}
	chardev_feed(a, (const uint8_t *)"x", 1);	/* the device is gone: nothing happens */
	machine_unlock(d.m);
	loop_turn(d.m->loop, 0);
	machine_lock(d.m);
	chardev_free(a);
	chardev_free(b);
	machine_unlock(d.m);
	machine_free(d.m);
	free(f);
	return 0;
}

static void feed(struct fix *f, unsigned port, const char *text)
{
	machine_lock(f->d.m);
	assert_int_equal(chardev_feed(f->chr[port], (const uint8_t *)text, strlen(text)), strlen(text));
	machine_unlock(f->d.m);
	drv_poll(&f->d);
}

static void give(struct fix *f, unsigned q, uint64_t addr, uint32_t len)
{
	struct ring_buf b[] = { { addr, len, true } };

	ring_push(&f->d.ring[q], b, 1);
	drv_kick(&f->d, q);
	drv_poll(&f->d);
}

static const char *got(struct fix *f, unsigned q, uint64_t addr)
{
	static char text[256];
	uint32_t id, len;

	memset(text, 0, sizeof(text));
	if (!ring_used(&f->d.ring[q], &id, &len))
		return NULL;
	assert_true(len < sizeof(text));
	mem_read(f->d.m->mem, addr, text, len);
	return text;
}

static void say(struct fix *f, unsigned q, const char *text)
{
	struct ring_buf b[] = { { 0x5000, strlen(text) / 2, false },
				{ 0x5000 + strlen(text) / 2, strlen(text) - strlen(text) / 2, false } };
	uint32_t id, len;

	mem_write(f->d.m->mem, 0x5000, text, strlen(text));
	ring_push(&f->d.ring[q], b, 2);
	drv_kick(&f->d, q);
	drv_poll(&f->d);
	assert_true(ring_used(&f->d.ring[q], &id, &len));
	assert_int_equal(len, 0);
}

/* ---- one port ---- */

static void output_arrives(void **state)
{
	struct fix *f = *state;

	say(f, 1, "login: ");
	say(f, 1, "root\n");
	assert_string_equal(f->out[0], "login: root\n");
}

static void input_waits_for_buffers(void **state)
{
	struct fix *f = *state;

	feed(f, 0, "hello world");
	give(f, 0, 0x6000, 6);
	assert_string_equal(got(f, 0, 0x6000), "hello ");
	give(f, 0, 0x6000, 64);
	assert_string_equal(got(f, 0, 0x6000), "world");
	give(f, 0, 0x6000, 64);
	assert_null(got(f, 0, 0x6000));
	feed(f, 0, "!");
	assert_string_equal(got(f, 0, 0x6000), "!");
}

static void buffer_of_no_length_does_not_stop_input(void **state)
{
	struct fix *f = *state;

	give(f, 0, 0x6000, 0);
	give(f, 0, 0x6000, 16);
	feed(f, 0, "abc");
	assert_string_equal(got(f, 0, 0x6000), "");
	assert_string_equal(got(f, 0, 0x6000), "a");
	give(f, 0, 0x6000, 16);
	assert_string_equal(got(f, 0, 0x6000), "bc");
}

static void size_and_its_change(void **state)
{
	struct fix *f = *state;

	assert_int_equal(drv_config(&f->d, 4, 4), 1);
	f->d.n_msi = 0;
	machine_lock(f->d.m);
	virtio_console_resize(f->dev, 0, 132, 43);
	virtio_console_resize(f->dev, 7, 1, 1);
	machine_unlock(f->d.m);
	assert_int_equal(drv_config(&f->d, 0, 2), 132);
	assert_int_equal(drv_config(&f->d, 2, 2), 43);
	assert_int_equal(f->d.n_msi, 1);
}

static void emergency_write_needs_no_driver(void **state)
{
	struct fix *f = *state;

	drv_set_status(&f->d, 0);
	drv_config_write(&f->d, 8, 4, 'E');
	loop_turn(f->d.m->loop, 0);
	assert_string_equal(f->out[0], "E");
}

static void nothing_moves_while_paused(void **state)
{
	struct fix *f = *state;

	give(f, 0, 0x6000, 16);
	machine_lock(f->d.m);
	machine_pause_devs(f->d.m);
	machine_unlock(f->d.m);
	feed(f, 0, "abc");
	assert_null(got(f, 0, 0x6000));
	machine_lock(f->d.m);
	machine_resume_devs(f->d.m);
	machine_unlock(f->d.m);
	drv_poll(&f->d);
	assert_string_equal(got(f, 0, 0x6000), "abc");
}

/* ---- ports ---- */

#define CTL_RX 2
#define CTL_TX 3

static void control(struct fix *f, uint32_t id, uint16_t event, uint16_t value)
{
	uint8_t msg[8];
	struct ring_buf b[] = { { 0x7000, 8, false } };
	uint32_t head, len;

	st_le32(msg, id);
	st_le16(msg + 4, event);
	st_le16(msg + 6, value);
	mem_write(f->d.m->mem, 0x7000, msg, 8);
	ring_push(&f->d.ring[CTL_TX], b, 1);
	drv_kick(&f->d, CTL_TX);
	drv_poll(&f->d);
	assert_true(ring_used(&f->d.ring[CTL_TX], &head, &len));
}

/* Offers one buffer; the message that came, as "id event value text". */
static const char *message(struct fix *f)
{
	static char text[256];
	uint8_t raw[128] = { 0 };
	uint32_t id, len;

	give(f, CTL_RX, 0x8000, 100);
	if (!ring_used(&f->d.ring[CTL_RX], &id, &len))
		return NULL;
	mem_read(f->d.m->mem, 0x8000, raw, len);
	if (ld_le16(raw + 4) == RESIZE)
		snprintf(text, sizeof(text), "%u resize %ux%u", ld_le32(raw), ld_le16(raw + 8), ld_le16(raw + 10));
	else
		snprintf(text, sizeof(text), "%u %u %u %s", ld_le32(raw), ld_le16(raw + 4), ld_le16(raw + 6),
			 (char *)raw + 8);
	return text;
}

static void greet(struct fix *f)
{
	control(f, 0, DEVICE_READY, 1);
	assert_string_equal(message(f), "0 1 1 ");
	assert_string_equal(message(f), "1 1 1 ");
	control(f, 0, PORT_READY, 1);
	assert_string_equal(message(f), "0 4 1 ");
	assert_string_equal(message(f), "0 6 1 ");
	control(f, 1, PORT_READY, 1);
	assert_string_equal(message(f), "1 7 1 org.lodge.agent");
	assert_string_equal(message(f), "1 6 1 ");
}

static void ports_are_announced_with_names(void **state)
{
	struct fix *f = *state;

	assert_int_equal(drv_config(&f->d, 4, 4), 2);
	greet(f);
	say(f, 5, "from port 1");
	assert_string_equal(f->out[1], "from port 1");
	assert_int_equal(f->n_out[0], 0);
}

static void closed_port_gets_no_input(void **state)
{
	struct fix *f = *state;

	greet(f);
	give(f, 4, 0x6000, 16);
	feed(f, 1, "early");
	assert_null(got(f, 4, 0x6000));
	assert_false(virtio_console_port_open(f->dev, 1));
	control(f, 1, PORT_OPEN, 1);
	drv_poll(&f->d);
	assert_true(virtio_console_port_open(f->dev, 1));
	assert_string_equal(got(f, 4, 0x6000), "early");
	control(f, 1, PORT_OPEN, 0);
	give(f, 4, 0x6000, 16);
	feed(f, 1, "late");
	assert_null(got(f, 4, 0x6000));
}

static void resize_goes_by_message(void **state)
{
	struct fix *f = *state;

	greet(f);
	machine_lock(f->d.m);
	virtio_console_resize(f->dev, 0, 80, 25);
	virtio_console_resize(f->dev, 0, 100, 30);	/* only the latest matters */
	machine_unlock(f->d.m);
	/* The first buffer left over by message(): none is, so it waits for one. */
	assert_string_equal(message(f), "0 resize 100x30");
}

static void hangup_closes_the_port(void **state)
{
	struct fix *f = *state;

	greet(f);
	control(f, 1, PORT_OPEN, 1);
	machine_lock(f->d.m);
	chardev_feed_eof(f->chr[1]);
	machine_unlock(f->d.m);
	drv_poll(&f->d);
	assert_string_equal(message(f), "1 6 0 ");
}

/* A port goes, its place is taken by another, and what the driver has not heard of needs no taking back. */
static void ports_come_and_go(void **state)
{
	struct fix *f = *state;
	struct virtio_console_port back = { .name = "back" };
	uint32_t id, len;

	greet(f);
	control(f, 1, PORT_OPEN, 1);
	machine_lock(f->d.m);
	assert_int_equal(virtio_console_add_port(f->dev, 1, &back), -EEXIST);
	assert_int_equal(virtio_console_add_port(f->dev, 2, &back), -EINVAL);
	assert_int_equal(virtio_console_remove_port(f->dev, 2), -ENOENT);
	assert_int_equal(virtio_console_remove_port(f->dev, 1), 0);
	assert_int_equal(virtio_console_remove_port(f->dev, 1), -ENOENT);
	machine_unlock(f->d.m);
	assert_string_equal(message(f), "1 2 1 ");
	assert_false(virtio_console_port_open(f->dev, 1));
	say(f, 5, "nobody");				/* its buffers come back */
	assert_int_equal(f->n_out[1], 0);
	control(f, 1, PORT_READY, 1);			/* late words about it are nothing */
	control(f, 1, PORT_OPEN, 1);
	assert_null(message(f));
	back.chr = f->chr[1];
	machine_lock(f->d.m);
	/* Told at once, into the buffer that message() left. */
	assert_int_equal(virtio_console_add_port(f->dev, 1, &back), 0);
	assert_true(ring_used(&f->d.ring[CTL_RX], &id, &len));
	assert_int_equal(virtio_console_remove_port(f->dev, 1), 0);
	assert_int_equal(virtio_console_add_port(f->dev, 1, &back), 0);
	assert_int_equal(virtio_console_remove_port(f->dev, 1), 0);
	assert_int_equal(virtio_console_add_port(f->dev, 1, &back), 0);
	machine_unlock(f->d.m);
	assert_string_equal(message(f), "1 2 1 ");
	assert_string_equal(message(f), "1 1 1 ");
	control(f, 1, PORT_READY, 1);
	assert_string_equal(message(f), "1 7 1 back");
	assert_string_equal(message(f), "1 6 1 ");
	say(f, 5, "again");
	assert_string_equal(f->out[1], "again");
}

static void nonsense_on_the_control_queue(void **state)
{
	struct fix *f = *state;
	struct ring_buf b[] = { { 0x7000, 3, false } };

	control(f, 77, PORT_READY, 1);
	control(f, 0xffffffff, PORT_OPEN, 1);
	control(f, 0, 999, 1);
	ring_push(&f->d.ring[CTL_TX], b, 1);		/* too short */
	drv_kick(&f->d, CTL_TX);
	for (unsigned i = 0; i < 2000; i++) {		/* no buffers: what waits does not grow */
		uint32_t id, len;

		control(f, i % 3, PORT_READY, 1);
		control(f, 0, DEVICE_READY, 1);
		ring_used(&f->d.ring[CTL_TX], &id, &len);
	}
	assert_int_equal(drv_status(&f->d), 15);
	ring_offer(&f->d.ring[CTL_TX], 1000);
	drv_kick(&f->d, CTL_TX);
	drv_poll(&f->d);
	assert_true(drv_status(&f->d) & VIRTIO_S_NEEDS_RESET);
}

/* A driver without MULTIPORT has port 0 only. */
static void driver_that_knows_no_ports(void **state)
{
	struct fix *f = *state;

	drv_start(&f->d, ALL & ~F_MULTIPORT, 8);
	say(f, 1, "plain");
	assert_string_equal(f->out[0], "plain");
	give(f, 0, 0x6000, 16);
	feed(f, 0, "in");
	assert_string_equal(got(f, 0, 0x6000), "in");
}

static void ports_survive_saving(void **state)
{
	struct fix *f = *state;
	struct snap_out *o;
	struct snap_in *in;
	struct err e;
	size_t len;
	const void *data;

	greet(f);
	control(f, 1, PORT_OPEN, 1);
	machine_lock(f->d.m);
	machine_pause_devs(f->d.m);
	assert_int_equal(snap_out_new(&o), 0);
	assert_int_equal(machine_save_devs(f->d.m, o, NULL), 0);
	machine_reset_devs(f->d.m);
	assert_false(virtio_console_port_open(f->dev, 1));
	data = snap_out_data(o, &len);
	assert_int_equal(snap_in_new(&in, data, len), 0);
	assert_int_equal(machine_load_devs(f->d.m, in, &e), 0);
	machine_resume_devs(f->d.m);
	assert_true(virtio_console_port_open(f->dev, 1));
	machine_unlock(f->d.m);
	give(f, 4, 0x6000, 16);
	feed(f, 1, "on");
	assert_string_equal(got(f, 4, 0x6000), "on");
	snap_in_free(in);
	snap_out_free(o);
}

static void too_many_ports_are_refused(void **state)
{
	static const struct virtio_console_port p[40];
	struct virtio_dev *d;
	struct drv x;
	struct err e;

	drv_machine(&x);
	assert_int_equal(virtio_console_new(x.m, "c", p, 40, true, &d, &e), -22);
	assert_int_equal(virtio_console_new(x.m, "c", p, 0, true, &d, &e), -22);
	drv_free(&x);
}

/* The reader of a pty takes what it likes when it likes. */
static void output_is_held_back_until_it_is_taken(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));
	char name[64];
	struct virtio_console_port port = { .console = true };
	struct ring_buf b[] = { { 0x200000, 1 << 20, false } };
	static uint8_t chunk[65536];
	size_t total = 0;
	uint32_t id, len;
	struct err e;
	int fd;

	drv_machine(&f->d);
	assert_int_equal(chardev_pty_new(f->d.m->loop, name, sizeof(name), &port.chr, &e), 0);
	fd = open(name, O_RDONLY | O_NONBLOCK | O_NOCTTY);
	assert_true(fd >= 0);
	assert_int_equal(virtio_console_new(f->d.m, "con0", &port, 1, false, &f->dev, NULL), 0);
	drv_plug(&f->d, f->dev, true);
	drv_start(&f->d, ALL, 8);
	for (unsigned i = 0; i < 40; i++)		/* until the pty noticed its reader */
		loop_turn(f->d.m->loop, 10);
	for (unsigned i = 0; i < 1 << 20; i++)
		mem_ram_host(f->d.m->mem)[0x200000 + i] = 'a' + i % 26;
	ring_push(&f->d.ring[1], b, 1);
	drv_kick(&f->d, 1);
	drv_poll(&f->d);
	assert_false(ring_used(&f->d.ring[1], &id, &len));	/* a megabyte fits nowhere */
	for (unsigned turns = 0; turns < 100000 && total < 1 << 20; turns++) {
		ssize_t n = read(fd, chunk, sizeof(chunk));

		for (ssize_t i = 0; i < n; i++)
			assert_int_equal(chunk[i], 'a' + (total + i) % 26);
		total += n > 0 ? n : 0;
		loop_turn(f->d.m->loop, 1);
	}
	assert_int_equal(total, 1 << 20);
	assert_true(ring_used(&f->d.ring[1], &id, &len));
	close(fd);
	machine_lock(f->d.m);
	while (!list_empty(&f->d.m->devs)) {
		struct dev *dev = list_entry(f->d.m->devs.prev, struct dev, node);

		dev->ops->free(dev);
	}
	chardev_free(port.chr);
	machine_unlock(f->d.m);
	machine_free(f->d.m);
	free(f);
}

#define S(fn) cmocka_unit_test_setup_teardown(fn, setup_single, teardown)
#define M(fn) cmocka_unit_test_setup_teardown(fn, setup_multi, teardown), \
	{ #fn " (mmio)", fn, setup_multi_mmio, teardown, NULL }

int main(void)
{
	const struct CMUnitTest tests[] = {
		S(output_arrives),
		S(input_waits_for_buffers),
		S(buffer_of_no_length_does_not_stop_input),
		S(size_and_its_change),
		S(emergency_write_needs_no_driver),
		S(nothing_moves_while_paused),
		M(ports_are_announced_with_names),
		M(closed_port_gets_no_input),
		M(resize_goes_by_message),
		M(hangup_closes_the_port),
		M(ports_come_and_go),
		M(nonsense_on_the_control_queue),
		M(driver_that_knows_no_ports),
		M(ports_survive_saving),
		cmocka_unit_test(too_many_ports_are_refused),
		cmocka_unit_test(output_is_held_back_until_it_is_taken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
