// SPDX-License-Identifier: GPL-2.0-or-later
/* The screen and what types on it, between the machine and those who look. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "display/display.h"
#include "display/input.h"
#include "display/keyseq.h"
#include "display/vnc/vnc.h"
#include "vm/internal.h"

int vm_display_new(struct vm *vm, struct err *e)
{
	int ret = 0;

	if (vm->cfg->machine == VM_MACHINE_PC || vm->cfg->vga)
		ret = input_new(&vm->m->lock, &vm->input);
	if (!ret && vm->input)
		ret = keyseq_player_new(vm->m->loop, vm->input, &vm->typist);
	for (unsigned i = 0; !ret && vm->cfg->vga && i < vm->cfg->outputs; i++) {
		ret = display_new(&vm->m->lock, &vm->screen[i]);
		vm->gpu.display[i] = vm->screen[i];
	}
	vm->gpu.outputs = vm->cfg->outputs;
	vm->gpu.shared = vm->cfg->vga == VM_VGA_VIRTIO;
	return ret ? err_set(e, ret, "out of memory for the screen") : 0;
}

#define PASSWORD_MAX 256

/* The first line of what "file:PATH" or "fd:N" names, to out; it is to be wiped. */
static int read_password(const char *where, char out[PASSWORD_MAX], struct err *e)
{
	int fd = !strncmp(where, "fd:", 3) ? atoi(where + 3) : open(where + 5, O_RDONLY | O_CLOEXEC);
	const char *shown = where + (strncmp(where, "file:", 5) ? 0 : 5);
	ssize_t n = fd < 0 ? -1 : read(fd, out, PASSWORD_MAX - 1);

	if (fd >= 0 && strncmp(where, "fd:", 3))
		close(fd);
	if (n < 0)
		return err_set(e, -errno, "%s: the password cannot be read: %s", shown, strerror(errno));
	out[n] = '\0';
	out[strcspn(out, "\r\n")] = '\0';
	return *out ? 0 : err_set(e, -EINVAL, "%s: the password is empty", shown);
}

/* "[HOST]:N" to host (of len bytes, empty: the loopback) and port. */
static int parse_listen(const char *text, char *host, size_t len, unsigned *port, struct err *e)
{
	const char *colon = strrchr(text, ':');
	char *end = NULL;
	unsigned long n = colon ? strtoul(colon + 1, &end, 10) : 0;
	size_t h = colon ? (size_t)(colon - text) : 0;

	if (!colon || !isdigit((unsigned char)colon[1]) || *end || n > 65535 - VNC_PORT || h >= len)
		return err_set(e, -EINVAL, "'%.60s' is not [HOST]:N (a display number) or unix:PATH", text);
	if (h >= 2 && text[0] == '[' && colon[-1] == ']') {	/* IPv6 */
		text++;
		h -= 2;
	}
	memcpy(host, text, h);
	host[h] = '\0';
	*port = VNC_PORT + (unsigned)n;
	return 0;
}

/* Where the screen is, for vm_display_tell; without memory it is not told. */
static void __attribute__((format(printf, 2, 3))) note(struct vm *vm, const char *fmt, ...)
{
	va_list ap;

	free(vm->screen_note);
	va_start(ap, fmt);
	if (vasprintf(&vm->screen_note, fmt, ap) < 0)
		vm->screen_note = NULL;
	va_end(ap);
}

void vm_display_tell(struct vm *vm)
{
	if (vm->screen_note)
		log_note("Screen: %s", vm->screen_note);
	free(vm->screen_note);
	vm->screen_note = NULL;
}

static int start_vnc(struct vm *vm, struct vnc_config *c, struct err *e)
{
	const char *where = vm->cfg->vnc.listen;
	char host[256] = "", address[260];
	int ret = 0;

	if (where && !strncmp(where, "unix:", 5))
		c->unix_path = where + 5;
	else if (where)
		ret = parse_listen(where, host, sizeof(host), &c->port, e);
	c->host = *host ? host : NULL;
	if (!ret && where)
		ret = vnc_new(vm->screen[0], vm->input, c, &vm->vnc, e);
	/* No address: the first display that is free. */
	for (unsigned n = 0; !where && (!n || (ret == -EADDRINUSE && n < 100)); n++) {
		c->port = VNC_PORT + n;
		ret = vnc_new(vm->screen[0], vm->input, c, &vm->vnc, e);
	}
	if (ret)
		return ret;
	snprintf(address, sizeof(address), strchr(host, ':') ? "[%s]" : "%s", *host ? host : "127.0.0.1");
	if (*host && strcmp(host, "localhost") && strncmp(host, "127.", 4) && strcmp(host, "::1") && !c->password && !c->view_password &&
	    !c->password_later)
		log_warn("--display: everybody who reaches %s has the guest's screen and keyboard; password-file= asks for one", host);
	if (c->unix_path)
		note(vm, "VNC on unix socket %s (guest '%s')", c->unix_path, vm->cfg->name);
	else
		note(vm, "vnc://%s:%u (guest '%s'; vncviewer %s:%u)", address, c->port, vm->cfg->name, address, c->port - VNC_PORT);
	return 0;
}

int vm_display_show(struct vm *vm, struct err *e)
{
	const struct vm_vnc *o = &vm->cfg->vnc;
	char password[PASSWORD_MAX], view[PASSWORD_MAX];
	struct vnc_config c = {
		.websocket = o->websocket, .read_only = o->read_only, .tls_anonymous = o->tls_anonymous,
		.tls_cert = o->tls_cert, .tls_key = o->tls_key, .clipboard = vm->clipboard,
		.password = o->password ? password : NULL, .password_later = o->password_later, .view_password = o->view_password ? view : NULL,
	};
	int ret = 0;

	if (!o->on || !vm->screen[0])
		return 0;
	if (o->password)
		ret = read_password(o->password, password, e);
	if (!ret && o->view_password)
		ret = read_password(o->view_password, view, e);
	if (!ret)
		ret = start_vnc(vm, &c, e);
	explicit_bzero(password, sizeof(password));
	explicit_bzero(view, sizeof(view));
	if (ret && o->maybe) {
		note(vm, "not shown: %s", e->msg);
		*e = (struct err){ 0 };
		return 0;
	}
	return ret ? err_prefix(e, ret, "--display") : 0;
}

void vm_display_hide(struct vm *vm)
{
	vnc_free(vm->vnc);
	vm->vnc = NULL;
	free(vm->screen_note);
	vm->screen_note = NULL;
}

void vm_display_free(struct vm *vm)
{
	for (unsigned i = 0; i < VIRTIO_GPU_MAX_OUTPUTS; i++) {
		display_free(vm->screen[i]);
		vm->screen[i] = NULL;
	}
	keyseq_player_free(vm->typist);
	vm->typist = NULL;
	input_free(vm->input);
	vm->input = NULL;
}
