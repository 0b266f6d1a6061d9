/* SPDX-License-Identifier: GPL-2.0-or-later */
/* virtio-console of three ports against a hostile driver and moody back ends. */
#include "virtio_fuzz.h"

#include "virtio/console.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A control message as drivers send them. */
static void control(struct fuzz *f)
{
	uint8_t *ring = f->ram + fuzz_ring(3), *msg = f->ram + 0x80000;

	st_le32(msg, (uint32_t)fuzz_take(f, 1) % 5);
	st_le16(msg + 4, (uint16_t)fuzz_take(f, 1) % 9);
	st_le16(msg + 6, (uint16_t)fuzz_take(f, 1) % 3);
	st_le64(ring, 0x80000);
	st_le32(ring + 8, 8);
	st_le32(ring + 12, 0);
	st_le16(ring + 0x404 + 2 * (f->avail[3] % FUZZ_QSIZE), 0);
	st_le16(ring + 0x402, ++f->avail[3]);
	fuzz_reg32(f, 0x50, 3);
	loop_turn(f->m->loop, 0);
}

static void action(struct fuzz *f, uint8_t what)
{
	struct chardev **chr = f->opaque;
	uint8_t buf[64];

	machine_lock(f->m);
	switch (what & 3) {
	case 0:
		for (unsigned i = 0; i < sizeof(buf); i++)
			buf[i] = (uint8_t)fuzz_take(f, i ? 0 : 1);
		chardev_feed(chr[what >> 2 & 1], buf, sizeof(buf));
		break;
	case 1:
		virtio_console_resize(f->d, (unsigned)fuzz_take(f, 1) % 5, (uint16_t)fuzz_take(f, 2), what);
		break;
	case 2:
		if (what & 8)
			chardev_feed_eof(chr[1]);
		break;
	default:
		/* Ports come and go. */
		if (what & 4)
			virtio_console_remove_port(f->d, what >> 3 & 3);
		else if (what & 8)
			virtio_console_add_port(f->d, what >> 2 & 3, &(struct virtio_console_port){ .name = "back" });
		break;
	}
	machine_unlock(f->m);
	if ((what & 3) == 3)
		control(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct virtio_console_port ports[3] = { { .console = true }, { .name = "one" }, { .name = "none" } };
	struct chardev *chr[2];
	struct virtio_dev *d;
	struct machine *m;
	struct fuzz f;
	struct err e;

	fuzz_machine(&f, data, size);
	m = f.m;
	if (chardev_null_new(m->loop, &chr[0]) || chardev_null_new(m->loop, &chr[1]))
		abort();
	ports[0].chr = chr[0];
	ports[1].chr = chr[1];
	if (virtio_console_new(m, "con0", ports, size & 1 ? 3 : 1, size & 2, &d, &e))
		abort();
	f.action = action;
	f.opaque = chr;
	fuzz_play_keep(&f, d);
	machine_lock(m);
	machine_free_devs(m);
	chardev_free(chr[0]);
	chardev_free(chr[1]);
	machine_unlock(m);
	machine_free(m);
	return 0;
}
