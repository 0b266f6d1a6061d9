// SPDX-License-Identifier: GPL-2.0-or-later
/* The screen: adapter, and where it is shown. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "qemu/qemu.h"

int opt_vga(struct qemu *q, const char *val, struct err *e)
{
	if (wants_help(q, "vga", val))
		return -EAGAIN;
	if (strcmp(val, "std") && strcmp(val, "virtio") && strcmp(val, "none"))
		return err_set(e, -ENOTSUP, "there is no such adapter; std, virtio and none are there");
	q->vga = val;
	return 0;
}

int opt_display(struct qemu *q, const char *val, struct err *e)
{
	static const char *const windows[] = { "gtk", "sdl", "curses", "cocoa", "egl-headless", "spice-app", "dbus" };

	if (wants_help(q, "display", val))
		return -EAGAIN;
	for (unsigned i = 0; i < ARRAY_LEN(windows); i++)
		if (!strncmp(val, windows[i], strlen(windows[i])))
			return err_set(e, -ENOTSUP, "there are no windows; use -vnc, -display vnc=ADDRESS or -display none");
	if (!strncmp(val, "vnc=", 4))
		return opt_vnc(q, val + 4, e);
	if (strcmp(val, "none") && strcmp(val, "default") && strcmp(val, "vnc"))
		return err_set(e, -EINVAL, "it is none or vnc=ADDRESS");
	q->display = val;
	return 0;
}

int opt_vnc(struct qemu *q, const char *val, struct err *e)
{
	q->vnc = strcmp(val, "none") ? val : NULL;
	q->display = q->vnc ? "vnc" : "none";
	return 0;
}

static int emit_vnc(struct qemu *q, struct err *e)
{
	static const char *const same[] = { "share", "lossy", "non-adaptive", "connections", "power-control", "key-delay-ms", "to", "audiodev", NULL };
	bool password = false;
	struct props p;
	const char *v;
	int ret = props_parse(q->vnc, "vnc", &p, e);

	v = ret ? NULL : props_take(&p, "vnc");
	if (!ret && (!v || !*v))
		ret = err_set(e, -EINVAL, "an address is missing, such as :1 or unix:PATH");
	if (!ret)
		ret = props_bool(&p, "password", &password, e);
	if (!ret) {
		/* QEMU's ":1" is on all addresses. */
		emit_begin(q, "--display");
		emit_part(q, NULL, keepf(q, "vnc=%s%s", *v == ':' ? "0.0.0.0" : "", v));
		emit_part(q, "websocket", props_take(&p, "websocket"));
		if (password)
			emit_part(q, "password", "later");
		emit_end(q);
		props_ignore(&p, same);
		ret = props_done(&p, e);
	}
	props_free(&p);
	return ret ? err_prefix(e, ret, "-vnc %.60s", q->vnc) : 0;
}

int emit_display(struct qemu *q, struct err *e)
{
	const char *vga = q->vga ? q->vga : q->nodefaults || q->vga_device || q->micro || q->none ? NULL : "std";
	bool none = q->nographic || q->none || (q->display && !strcmp(q->display, "none"));

	if (vga && !q->vga_device)
		emitf(q, "--vga", "%s", vga);
	else if (!q->vga_device)
		emitf(q, "--vga", "none");
	q->usb_device |= q->vnc != NULL;	/* a tablet comes with a display */
	if (q->vnc)
		return emit_vnc(q, e);
	if (!none && !q->daemonize && (vga || q->vga_device) && (!vga || strcmp(vga, "none"))) {
		emitf(q, "--display", "vnc");
		q->usb_device = true;
	}
	return 0;
}
