/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Cases whose code the assembler writes into the test itself.
 */
#ifndef TESTS_INSN_SNIPPET_H
#define TESTS_INSN_SNIPPET_H

#include "rig.h"

#define SNIPPET(name, text)                                                                                         \
	__asm__(".pushsection .rodata\n" #name "_b:\n" text "\n" #name "_e:\n.popsection");                        \
	extern const uint8_t name##_b[] __asm__(#name "_b"), name##_e[] __asm__(#name "_e")

/* 32-bit code. */
#define SNIPPET32(name, text) SNIPPET(name, ".code32\n" text "\n.code64")

#define SNIPPET_LEN(name) ((unsigned)(name##_e - name##_b))

/*
 * The one case there is at a time, made anew: `code` at the start of the code page, 64-bit user mode, the
 * stack in the middle of the first data page, everything else as a program finds it.  cmocka has the fault
 * signals until here.
 */
struct rig_case *snippet_case(const uint8_t *code, size_t len);

#endif
