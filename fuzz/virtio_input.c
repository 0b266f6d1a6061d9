/* SPDX-License-Identifier: GPL-2.0-or-later */
/* virtio-input of each kind against a hostile driver and a busy typist. */
#include "virtio_fuzz.h"

#include "virtio/input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void action(struct fuzz *f, uint8_t what)
{
	struct input *in = f->opaque;

	switch (what & 3) {
	case 0: input_key(in, (unsigned)fuzz_take(f, 1), what & 4); break;
	case 1: input_rel(in, (int)fuzz_take(f, 4), (int)fuzz_take(f, 2), (int8_t)fuzz_take(f, 1), (unsigned)fuzz_take(f, 1)); break;
	case 2: input_abs(in, (unsigned)fuzz_take(f, 4), (unsigned)fuzz_take(f, 2), 640, 480, what, (unsigned)fuzz_take(f, 1)); break;
	default: input_has_abs(in); break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct virtio_dev *d;
	struct input *in;
	struct fuzz f;
	struct err e;

	fuzz_machine(&f, data, size);
	if (input_new(&f.m->lock, &in))
		abort();
	machine_lock(f.m);
	if (virtio_input_new(f.m, "in0", (enum virtio_input_kind)(size % 3), in, &d, &e))
		abort();
	machine_unlock(f.m);
	f.action = action;
	f.opaque = in;
	fuzz_play(&f, d);
	input_free(in);
	return 0;
}
