/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who has the guest's x87 and MMX registers.
 *
 * Translated code loads them into the host's when a block wants them, and there
 * they stay, across exits, C and other guest code, for as long as nobody asks
 * for the image in s.fpu.fx: nothing of the VMM that runs on a vCPU's thread uses
 * x87 (long double) or MMX, the kernel keeps a thread's registers through
 * whatever comes between, and signal handlers get fresh ones.  c->x87_away says
 * so.  Who asks (exec stubs and C of x87, MMX, FXSAVE and XSAVE instructions;
 * vcpu_run before it returns) gets the image by xl_x87_fetch, which leaves the
 * host's x87 empty and with nothing pending.  An unmasked error that is pending
 * meanwhile is of no consequence: only x87 and MMX instructions report it.
 *
 * FOP, FIP and FDP of the host, which are addresses in the code cache, never get
 * out: the guest's are recorded by emitted code (gen_x87.c), FDP in the image
 * itself, the others in x87_last and x87_page.
 */
#include "cpu/translate/translate.h"

#define FX_SIZE 512
#define FX_POINTERS 6		/* FOP, FIP and FDP: bytes 6 to 23 */
#define FX_MXCSR 24
#define FX_REGS 32
#define FSW_ES 0x80u

void xl_x87_fetch(struct x86_cpu *c)
{
	static const uint16_t fcw = 0x37f;
	alignas(16) uint8_t img[FX_SIZE];
	struct xl_cpu *x = xl_of(c);
	uint8_t *fx = c->s.fpu.fx;

	__asm__ volatile("fxsave64 %0" : "=m"(img));
	if (img[2] & FSW_ES)
		__asm__ volatile("fnclex");
	__asm__ volatile("emms; fldcw %0" : : "m"(fcw));
	memcpy(fx, img, FX_POINTERS);
	memcpy(fx + FX_REGS, img + FX_REGS, 128);
	st_le16(fx + 6, x->x87_last >> 16 & 0x7ff);
	st_le64(fx + 8, x->x87_page + (x->x87_last & 0xfff));
	c->x87_away = false;
}

int xl_do_x87_load(struct xl_cpu *x)
{
	static const uint32_t mxcsr = 0x1f80;
	alignas(16) uint8_t img[FX_SIZE] = { 0 };
	const uint8_t *fx = x->ic.c.s.fpu.fx;

	/* The vector registers are nobody's here. */
	memcpy(img, fx, FX_POINTERS);
	memcpy(img + FX_REGS, fx + FX_REGS, 128);
	st_le32(img + FX_MXCSR, mxcsr);
	__asm__ volatile("fxrstor64 %0"
			 :
			 : "m"(img)
			 : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
			   "xmm12", "xmm13", "xmm14", "xmm15");
	x->x87_last = XL_X87_LAST(ld_le16(fx + 6), 0);
	x->x87_page = ld_le64(fx + 8);
	x->ic.c.x87_away = true;
	return 0;
}
