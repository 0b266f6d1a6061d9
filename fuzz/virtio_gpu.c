/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio-gpu with two outputs, of which the first is shared with a VGA, against a
 * hostile driver; viewers come, look, wish for sizes and go.
 */
#include "virtio_fuzz.h"

#include "display/display.h"
#include "virtio/gpu.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct screens {
	struct display *d[2];
	struct display_viewer viewer[2];
	bool looks[2];
};

/* A command as drivers send them: small numbers, so that they meet resources that exist. */
static void command(struct fuzz *f)
{
	static const uint32_t types[] = { 0x100, 0x101, 0x101, 0x102, 0x103, 0x103, 0x104, 0x104, 0x105, 0x105, 0x106, 0x106, 0x107,
					  0x10a, 0x300, 0x301 };
	uint32_t type = types[fuzz_take(f, 1) % 16];
	unsigned q = type >= 0x300;
	uint8_t *ring = f->ram + fuzz_ring(q), *req = f->ram + 0x80000;
	uint8_t how = (uint8_t)fuzz_take(f, 1);
	uint32_t w[8];

	memset(req, 0, 256);
	st_le32(req, type);
	st_le32(req + 4, how & 1);
	for (unsigned i = 0; i < 8; i++)
		w[i] = how & 2 ? (uint32_t)fuzz_take(f, 1) : (uint32_t)fuzz_take(f, 1) % 65;
	switch (type) {
	case 0x101:			/* id, format, width, height: some as cursors are */
		w[0] %= 8;
		w[1] = (const uint32_t[]){ 1, 2, 3, 4, 67, 68, 121, 134 }[w[1] % 8];
		if (how & 4)
			w[2] = w[3] = 64;
		break;
	case 0x106:			/* id, entries, then one */
		w[0] %= 8;
		w[1] = how & 4 ? w[1] : 1;
		w[2] = w[2] << 12;
		w[4] = w[4] << 8;
		break;
	case 0x103: w[4] %= 3; w[5] %= 8; break;
	case 0x104: w[4] %= 8; break;
	case 0x105:
		w[6] %= 8;
		w[5] = 0;
		if (how & 8)
			w[0] = w[1] = w[4] = 0;
		break;
	case 0x300: case 0x301: w[0] %= 3; w[4] %= 8; break;
	default: w[0] %= 8; break;
	}
	for (unsigned i = 0; i < 8; i++)
		st_le32(req + 24 + 4 * i, w[i]);
	st_le64(ring, 0x80000);
	st_le32(ring + 8, 24 + 32);
	st_le16(ring + 12, 1);
	st_le16(ring + 14, 1);
	st_le64(ring + 16, 0x81000);
	st_le32(ring + 24, 2048);
	st_le32(ring + 28, 2);
	st_le16(ring + 0x404 + 2 * (f->avail[q] % FUZZ_QSIZE), 0);
	st_le16(ring + 0x402, ++f->avail[q]);
	fuzz_reg32(f, 0x50, q);
	loop_turn(f->m->loop, 0);
}

static void action(struct fuzz *f, uint8_t what)
{
	struct screens *s = f->opaque;
	unsigned n = what & 1;

	switch (what >> 1 & 7) {
	case 0:
		s->looks[n] ? display_unwatch(s->d[n], &s->viewer[n]) : display_watch(s->d[n], &s->viewer[n]);
		s->looks[n] = !s->looks[n];
		break;
	case 1:
		display_refresh(s->d[n]);
		break;
	case 2:
		display_wish(s->d[n], (unsigned)fuzz_take(f, 2), (unsigned)fuzz_take(f, 2));
		break;
	default:
		command(f);
		break;
	}
}

static void vga_refresh(void *opaque, struct display *d) { display_resize(d, 16, 16); }
static void vga_watched(void *opaque, bool on) { }
static const struct display_ops vga = { .refresh = vga_refresh, .watched = vga_watched };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct virtio_gpu_config cfg = { .outputs = 2, .shared = size & 1 };
	static struct screens s;
	struct virtio_dev *d;
	struct machine *m;
	struct fuzz f;
	struct err e;

	memset(&s, 0, sizeof(s));
	fuzz_machine(&f, data, size);
	m = f.m;
	for (unsigned i = 0; i < 2; i++) {
		if (display_new(&m->lock, &s.d[i]))
			abort();
		cfg.display[i] = s.d[i];
	}
	machine_lock(m);
	if (virtio_gpu_new(m, "gpu0", &cfg, &d, &e))
		abort();
	if (cfg.shared)
		display_attach(s.d[0], &vga, NULL);
	machine_unlock(m);
	f.action = action;
	f.opaque = &s;
	fuzz_play_keep(&f, d);
	for (unsigned i = 0; i < 2; i++) {
		display_refresh(s.d[i]);
		if (s.looks[i])
			display_unwatch(s.d[i], &s.viewer[i]);
	}
	machine_free(m);
	for (unsigned i = 0; i < 2; i++)
		display_free(s.d[i]);
	return 0;
}
