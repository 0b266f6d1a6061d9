/* SPDX-License-Identifier: GPL-2.0-or-later */
/* virtio-balloon against a hostile driver: it punches holes into its own memory. */
#include "virtio_fuzz.h"

#include "virtio/balloon.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void action(struct fuzz *f, uint8_t what)
{
	struct virtio_balloon_info i;

	machine_lock(f->m);
	switch (what & 3) {
	case 0: virtio_balloon_set_target(f->d, fuzz_take(f, 3)); break;
	case 1: virtio_balloon_poll_stats(f->d, (uint32_t)fuzz_take(f, 1)); break;
	case 2: clock_step(f->m->clock, (int64_t)fuzz_take(f, 4)); break;
	default: virtio_balloon_get(f->d, &i); break;
	}
	machine_unlock(f->m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct virtio_dev *d;
	struct fuzz f;
	struct err e;

	fuzz_machine(&f, data, size);
	if (virtio_balloon_new(f.m, "balloon0", &d, &e))
		abort();
	f.action = action;
	fuzz_play(&f, d);
	return 0;
}
