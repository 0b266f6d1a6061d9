// SPDX-License-Identifier: GPL-2.0-or-later
/* Saving the guest: the command waits until the VM has told that it is done. */
#include <errno.h>

#include "control/internal.h"

static void on_saved(void *opaque, int ret, const struct vm_save_result *r, const struct err *e)
{
	struct control *ctl = opaque;

	list_for_each_safe(n, &ctl->saves) {
		struct ctl_call *c = list_entry(n, struct ctl_call, node);

		if (!ctl_failed(c, ret, e))
			ctl_return(c, json_pack("{s:I,s:I,s:I,s:i}", "memory-bytes", (json_int_t)r->memory_bytes, "stored-bytes",
						(json_int_t)r->stored_bytes, "pause-ms",
						(json_int_t)(r->pause_ns / 1000000), "disks", (int)r->disks));
		ctl_answer(c);
	}
}

void ctl_cmd_x_lodge_snapshot_save(struct ctl_call *c, const struct ctl_args_x_lodge_snapshot_save *a)
{
	static const enum vm_save_then thens[] = { VM_SAVE_GO_ON, VM_SAVE_STOP, VM_SAVE_QUIT };
	const struct vm_save_opts o = { .dir = a->directory, .diff_of = a->difference_of, .compress = a->has_compress && a->compress,
					.then = a->has_then ? thens[a->then] : VM_SAVE_GO_ON };
	struct err e = { "" };
	int ret;

	if (o.dir[0] != '/' || (o.diff_of && o.diff_of[0] != '/')) {
		ctl_fail(c, CTL_GENERIC_ERROR, "Parameter '%s' expects an absolute path", o.dir[0] != '/' ? "directory" : "difference-of");
		return;
	}
	ret = vm_save(c->ctl->vm, &o, on_saved, c->ctl, &e);
	if (!ctl_failed(c, ret, &e) && c->mon)
		ctl_defer(c, &c->ctl->saves);
}
