/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Machine code as text, for reports. */
#ifndef LODGE_CPU_X86_DISASM_H
#define LODGE_CPU_X86_DISASM_H

#include <stddef.h>
#include <stdint.h>

/* The instruction at `bytes`, which is at address `at`, in Intel's syntax; bits: 16, 32 or
 * 64.  Returns its length; at least 1, with a .byte, when it is none.  n > 0. */
unsigned x86_disasm(const uint8_t *bytes, size_t n, uint64_t at, unsigned bits, char *out, size_t len);
/* "PUSHFQ", in lower case, of a ZYDIS_MNEMONIC_*. */
const char *x86_mnemonic(unsigned mnemonic);

#endif
