/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What targets that build a machine of their own share: the input's bytes, taken one after the other, and saved state
 * that is damaged by them. */
#ifndef LODGE_FUZZ_INPUT_H
#define LODGE_FUZZ_INPUT_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "machine/machine.h"

struct fuzz_input {
	const uint8_t *p;
	size_t left;
};

/* At most len bytes to `to`; how many. */
static inline size_t input_bytes(struct fuzz_input *in, void *to, size_t len)
{
	len = MIN(len, in->left);
	memcpy(to, in->p, len);
	in->p += len;
	in->left -= len;
	return len;
}

/* Zero when the input is used up. */
static inline uint64_t input_take(struct fuzz_input *in, unsigned len)
{
	uint8_t b[8] = { 0 };

	input_bytes(in, b, len);
	return ld_le64(b);
}

/* 1 to 64 bytes into memory of `size`. */
static inline void input_memory(struct fuzz_input *in, uint8_t *ram, uint64_t size, uint64_t at)
{
	size_t len = 1 + input_take(in, 1) % 64;

	at %= size;
	input_bytes(in, ram + at, MIN(len, size - at));
}

/* All devices are saved, reset, and made from what was saved, of which two bytes may be wrong: a file may be damaged. */
static inline void input_save_load(struct fuzz_input *in, struct machine *m)
{
	struct snap_out *o;
	struct snap_in *s;
	struct err e;
	uint8_t *copy;
	const void *p;
	size_t len;

	if (snap_out_new(&o))
		return;
	machine_lock(m);
	machine_pause_devs(m);
	machine_save_devs(m, o, NULL);
	p = snap_out_data(o, &len);
	copy = malloc(len + 1);
	memcpy(copy, p, len);
	for (unsigned i = 0; i < 2 && len && in->left > 3; i++)
		copy[input_take(in, 2) % len] ^= (uint8_t)input_take(in, 1);
	if (!snap_in_new(&s, copy, len)) {
		machine_reset_devs(m);
		if (machine_load_devs(m, s, &e))
			machine_reset_devs(m);
		snap_in_free(s);
	}
	machine_resume_devs(m);
	machine_unlock(m);
	snap_out_free(o);
	free(copy);
}

/* Bytes at the end of the backing that are shown nowhere, for a target that shows them itself. */
#ifndef INPUT_RESERVE
#define INPUT_RESERVE 0
#endif

/* A machine with so much memory at 0; where that is. */
static inline uint8_t *input_machine(uint64_t ram, struct machine **m)
{
	struct err e;

	if (machine_new(m, true))
		abort();
	mem_reserve((*m)->mem, INPUT_RESERVE);
	if (mem_create_ram((*m)->mem, ram + INPUT_RESERVE, MEM_HUGE_NONE, &e) ||
	    mem_add_ram((*m)->mem, "ram", 0, 0, ram, &e))
		abort();
	return mem_ram_host((*m)->mem);
}

#endif
