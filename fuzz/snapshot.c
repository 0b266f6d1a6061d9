// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The file `state` of a saved VM: sections, the CPU model, the machine's table and the vCPUs.
 *
 * The input is a file, or (first byte odd) a bare stream of records, so that mutations need not find a checksum.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "cpu/x86/snap.h"
#include "vm/snapshot.h"

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
			if (st->fpu.mxcsr >> 16 || st->activity > X86_WAIT_SIPI || p.nmis > 2 || (st->cr0 & X86_CR0_PG && !(st->cr0 & X86_CR0_PE)))
				abort();
		}
	}
	snap_in_free(in);
	free(st);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct snapshot_section s[SNAPSHOT_SECTIONS], bare;
	struct err e;

	if (!size)
		return 0;
	if (*data & 1) {
		bare = (struct snapshot_section){ data + 1, size - 1 };
		look_at(&bare);
	} else if (!snapshot_file_parse(data, size, s, &e)) {
		for (unsigned i = 0; i < SNAPSHOT_SECTIONS; i++)
			look_at(&s[i]);
	}
	return 0;
}
