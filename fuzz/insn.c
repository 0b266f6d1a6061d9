// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Guest code as bytes: decoded in all three code sizes, and whatever the host
 * would execute in the guest's place is rewritten and its stub made (not run).
 * The first byte chooses the code size.
 */
#include <stdint.h>
#include <stdlib.h>

#include "cpu/interp/exec.h"
#include "cpu/x86/decode.h"
#include "cpu/x86/opinfo.h"
#include "cpu/x86/rewrite.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What insn_rewrite accepts must name no memory but its one base register. */
static void check_rewrite(const struct insn *i)
{
	struct rewrite r = { .mem_reg = 6, .rsp_as = INSN_NOREG };
	struct op_info o;
	struct insn n;

	if (op_info_get(i, &o) < 0 || insn_rewrite(i, &o, &r) < 0)
		return;
	if (insn_decode(&n, r.bytes, r.len, 64) < 0 || n.len != r.len)
		abort();
	if (n.has_mem && (n.mem_base != 6 || n.mem_index != INSN_NOREG || n.mem_disp || n.mem_size != i->mem_size))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const unsigned sizes[] = { 16, 32, 64 };
	static struct exec_cache *cache;
	struct insn i;
	unsigned bits;
	int err;

	if (!cache) {
		cache = exec_cache_new(&err);
		if (!cache)
			abort();
	}
	if (size < 2)
		return 0;
	bits = sizes[data[0] % 3];
	data++;
	size--;
	while (size && !insn_decode(&i, data, size > 15 ? 15 : (unsigned)size, bits)) {
		check_rewrite(&i);
		if (exec_cache_full(cache))
			exec_cache_reset(cache);
		if (exec_handles(&i))
			(void)exec_get(cache, &i);
		data += i.len;
		size -= i.len;
	}
	return 0;
}
