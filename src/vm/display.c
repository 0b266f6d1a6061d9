// SPDX-License-Identifier: GPL-2.0-or-later
/* The screen and what types on it, between the machine and those who look. */
#include <errno.h>

#include "display/display.h"
#include "display/input.h"
#include "vm/internal.h"

int vm_display_new(struct vm *vm, struct err *e)
{
	int ret = 0;

	if (vm->cfg->machine != VM_MACHINE_PC)
		return 0;
	ret = input_new(&vm->m->lock, &vm->input);
	if (!ret && vm->cfg->vga)
		ret = display_new(&vm->m->lock, &vm->display);
	return ret ? err_set(e, ret, "out of memory for the screen") : 0;
}

void vm_display_free(struct vm *vm)
{
	display_free(vm->display);
	input_free(vm->input);
	vm->display = NULL;
	vm->input = NULL;
}
