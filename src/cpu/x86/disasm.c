/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Machine code as text: Zydis' formatter. */
#include <stdio.h>

#include <Zydis/Zydis.h>

#include "cpu/x86/disasm.h"

unsigned x86_disasm(const uint8_t *bytes, size_t n, uint64_t at, unsigned bits, char *out, size_t len)
{
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	ZydisDecodedInstruction i;
	ZydisFormatter f;
	ZydisDecoder d;

	ZydisDecoderInit(&d, bits == 64 ? ZYDIS_MACHINE_MODE_LONG_64 : bits == 32 ? ZYDIS_MACHINE_MODE_LEGACY_32 : ZYDIS_MACHINE_MODE_LEGACY_16,
			 bits == 64 ? ZYDIS_STACK_WIDTH_64 : bits == 32 ? ZYDIS_STACK_WIDTH_32 : ZYDIS_STACK_WIDTH_16);
	if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&d, bytes, n, &i, op)) ||
	    !ZYAN_SUCCESS(ZydisFormatterInit(&f, ZYDIS_FORMATTER_STYLE_INTEL)) ||
	    !ZYAN_SUCCESS(ZydisFormatterFormatInstruction(&f, &i, op, i.operand_count_visible, out, len, at, NULL))) {
		snprintf(out, len, ".byte 0x%02x", bytes[0]);
		return 1;
	}
	return i.length;
}

const char *x86_mnemonic(unsigned mnemonic) { return ZydisMnemonicGetString((ZydisMnemonic)mnemonic); }
