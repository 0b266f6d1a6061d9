/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "snippet.h"

#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "cpu/interp/exec.h"
#include "cpu/x86/cpu.h"

struct rig_case *snippet_case(const uint8_t *code, size_t len)
{
	static struct rig_case c;

	exec_signals_install();
	if (len > RIG_CODE_MAX)
		abort();
	memset(&c, 0, sizeof(c));
	memcpy(c.code, code, len);
	c.len = (unsigned)len;
	c.bits = 64;
	c.rflags = X86_FL_FIXED | X86_FL_IF;
	c.gpr[X86_RSP] = RIG_DATA + 0x800;
	c.fpu.mxcsr = 0x1f80;
	st_le16(c.fpu.fx, 0x37f);
	return &c;
}
