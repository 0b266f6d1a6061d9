// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The file `state` of a saved VM: sections, the CPU model, the machine's table and the vCPUs.
 *
 * The input is a file (first byte 'L'), a bare stream of records (odd), so that mutations need not find a checksum, or else what is
 * changed in the records of a vCPU after reset: a place, 2 bytes, and a value, each time.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "cpu/x86/snap.h"
#include "vm/snapshot_int.h"
#include "vm/snapshot_memory.h"

static void look_at(const struct snapshot_section *s)
{
	struct x86_state *st = aligned_alloc(64, align_up(sizeof(*st), 64));
	struct x86_cpu_model m;
	struct x86_pending p;
	struct snap_in *in;
	struct err e;

	if (!st || snap_in_new(&in, s->data, s->len)) {
		free(st);
		return;
	}
	if (!x86_model_load(in, &m, &e)) {
		uint32_t none[X86_F_WORDS] = { 0 };

		x86_model_fits(&m, none, &e);
		for (unsigned i = 0; i < 4; i++) {
			if (x86_state_load(in, i, &m, st, &p, &e))
				break;
			/* What engines rely on. */
			if (st->xcr0 & ~(x86_model_xcr0(m.feat) | 1) || st->fpu.mxcsr >> 16 || st->activity > X86_WAIT_SIPI || p.nmis > 2 || (st->cr0 & X86_CR0_PG && !(st->cr0 & X86_CR0_PE)))
				abort();
		}
	}
	snap_in_free(in);
	free(st);
}

static struct snap_out *good_records(void)
{
	struct x86_state *st = aligned_alloc(64, align_up(sizeof(*st), 64));
	const struct x86_pending none = { 0 };
	uint32_t avail[X86_F_WORDS];
	struct x86_cpu_model m;
	struct snap_out *o;
	struct err e;

	x86_soft_features(avail);
	if (!st || snap_out_new(&o) || x86_cpu_model_parse("max", avail, 1, &m, &e) || x86_model_save(o, &m))
		abort();
	x86_state_reset(st, 0, 0);
	for (unsigned i = 0; i < 2; i++)
		if (x86_state_save(o, i, st, &none))
			abort();
	free(st);
	return o;
}

static void look_at_changed(const uint8_t *data, size_t size)
{
	static struct snap_out *good;
	struct snapshot_section s;
	uint8_t *copy;

	if (!good)
		good = good_records();
	s.data = snap_out_data(good, &s.len);
	copy = malloc(s.len);
	if (!copy)
		return;
	memcpy(copy, s.data, s.len);
	for (; size >= 3; data += 3, size -= 3)
		copy[ld_le16(data) % s.len] = data[2];
	s.data = copy;
	look_at(&s);
	free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct snapshot_section s[SNAPSHOT_SECTIONS], bare;
	struct snapshot_memory about;
	struct err e;

	if (!size)
		return 0;
	if (*data & 1) {
		bare = (struct snapshot_section){ data + 1, size - 1 };
		look_at(&bare);
	} else if (*data != 'L') {
		look_at_changed(data + 1, size - 1);
	} else if (!snapshot_file_parse(data, size, s, &e)) {
		for (unsigned i = 0; i < SNAPSHOT_SECTIONS; i++)
			if (s[i].data)
				look_at(&s[i]);
		if (s[SNAPSHOT_MEMORY].data)
			vm_snapshot_record(&s[SNAPSHOT_MEMORY], "memory", &snapshot_memory_table, &about, &e);
	}
	return 0;
}
