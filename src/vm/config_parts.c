// SPDX-License-Identifier: GPL-2.0-or-later
/* Configuration of the small devices that a PC may have: TPM, VM generation ID, watchdog, what types and points. */
#include "vm/config_int.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "device/xhci.h"
#include "virtio/console.h"
#include "virtio/vsock.h"

static const char *const watchdog_words[] = { "none", "i6300esb", NULL };	/* as enum vm_watchdog */
const char *const vm_watchdog_action_words[] = { "reset", "shutdown", "poweroff", "pause", "debug", "none", "inject-nmi", NULL };

static const char *const sandbox_words[] = { "auto", "on", "off", NULL };	/* as enum vm_sandbox */
static const char *const input_words[] = { "none", "virtio-keyboard", "virtio-mouse", "virtio-tablet", NULL };	/* as enum vm_input */

int config_input(struct vm_config *v, unsigned n, const char *val, struct err *e)
{
	int w = 0, ret;

	if (n >= VM_MAX_INPUTS)
		return err_set(e, -E2BIG, "a guest has at most %d input devices of this kind", VM_MAX_INPUTS);
	ret = config_word(val, input_words, &w, e);
	v->input[n] = (enum vm_input)w;
	return ret;
}

const char *const vm_usb_words[] = { "usb-kbd", "usb-mouse", "usb-tablet", "none", "absent", NULL };	/* as enum vm_usb */

int config_usb(struct vm_config *v, unsigned n, const char *field, const char *val, struct err *e)
{
	int w = 0, ret;

	if (n >= VM_MAX_USB)
		return err_set(e, -E2BIG, "a guest has at most %d USB devices", VM_MAX_USB);
	if (!strcmp(field, "id"))
		return config_id(val, &v->usb_id[n], e);
	if (!strcmp(field, "port"))
		return config_uint(val, 1, XHCI_SOCKETS, &v->usb_port[n], e);
	if (*field)
		return -ENOENT;
	ret = config_word(val, vm_usb_words, &w, e);
	v->usb[n] = (enum vm_usb)w;
	return ret;
}

static const char *const tpm_words[] = { "none", "tis", "crb", NULL };	/* as enum vm_tpm */

int vm_parse_uuid(const char *text, uint8_t uuid[16], struct err *e)
{
	static const char form[] = "xx-x-x-x-xxx";	/* four digits each */
	const char *p = text;
	unsigned n = 0;

	for (const char *f = form; *f && p; f++) {
		int len = 0;

		if (*f == '-') {
			p = *p == '-' ? p + 1 : NULL;
			continue;
		}
		if (strspn(p, "0123456789abcdefABCDEF") < 4 || sscanf(p, "%2hhx%2hhx%n", &uuid[n], &uuid[n + 1], &len) != 2 || len != 4) {
			p = NULL;
			continue;
		}
		n += 2;
		p += 4;
	}
	return p && !*p ? 0 : err_set(e, -EINVAL, "'%.60s' is not a UUID such as 01234567-89ab-cdef-0123-456789abcdef", text);
}

static int set_vmgenid(const char *val, struct vm_config *v, struct err *e)
{
	v->vmgenid = strcmp(val, "none") != 0;
	v->vmgenid_auto = !strcmp(val, "auto");
	return !v->vmgenid || v->vmgenid_auto ? 0 : vm_parse_uuid(val, v->vmgenid_uuid, e);
}

int config_part(const char *key, const char *val, struct vm_config *v, struct err *e)
{
	int w = 0, ret;

	if (!strcmp(key, "port-places"))
		return config_uint(val, 1, VIRTIO_CONSOLE_MAX_PORTS, &v->port_places, e);
	if (!strcmp(key, "agent-port"))
		return config_uint(val, 1, VIRTIO_CONSOLE_MAX_PORTS - 1, &v->agent_nr, e);
	if (!strcmp(key, "clipboard-port"))
		return config_uint(val, 1, VIRTIO_CONSOLE_MAX_PORTS - 1, &v->clipboard_nr, e);
	if (!strcmp(key, "guest-agent"))
		return config_text(val, &v->guest_agent, e);
	if (!strcmp(key, "clipboard"))
		return config_bool(val, &v->clipboard, e);
	if (!strcmp(key, "vsock.cid"))
		return config_uint(val, VIRTIO_VSOCK_CID_MIN, VIRTIO_VSOCK_CID_MAX, &v->vsock_cid, e);
	if (!strcmp(key, "vsock.path"))
		return config_text(val, &v->vsock_path, e);
	if (!strcmp(key, "tpm")) {
		ret = config_word(val, tpm_words, &w, e);
		v->tpm = (enum vm_tpm)w;
		return ret;
	}
	if (!strcmp(key, "tpm-socket"))
		return config_text(val, &v->tpm_socket, e);
	if (!strcmp(key, "tpm-end"))
		return config_bool(val, &v->tpm_end, e);
	if (!strcmp(key, "tpm-state"))
		return config_text(val, &v->tpm_state, e);
	if (!strcmp(key, "vmgenid"))
		return set_vmgenid(val, v, e);
	if (!strcmp(key, "watchdog")) {
		ret = config_word(val, watchdog_words, &w, e);
		v->watchdog = (enum vm_watchdog)w;
		return ret;
	}
	if (!strcmp(key, "watchdog-action")) {
		ret = config_word(val, vm_watchdog_action_words, &w, e);
		v->watchdog_action = (enum vm_watchdog_action)w;
		return ret;
	}
	if (!strcmp(key, "sandbox")) {
		ret = config_word(val, sandbox_words, &w, e);
		v->sandbox = (enum vm_sandbox)w;
		return ret;
	}
	return config_host(key, val, v, e);
}

/* A viewer's pointer is where the guest's is only with a device that takes positions. */
static int check_usb(struct vm_config *v, struct err *e)
{
	bool none = false, pointer = false;

	for (unsigned i = 0; i < v->n_usb; i++) {
		none |= v->usb[i] == VM_USB_NONE;
		pointer |= v->usb[i] == VM_USB_MOUSE || v->usb[i] == VM_USB_TABLET || v->usb[i] == VM_USB_NONE;
	}
	for (unsigned i = 0; i < VM_MAX_INPUTS; i++)
		pointer |= v->input[i] == VM_INPUT_VIRTIO_TABLET || v->input[i] == VM_INPUT_VIRTIO_MOUSE;
	if (none && v->n_usb > 1)
		return err_set(e, -EINVAL, "--usb none and other USB devices exclude each other");
	if (v->n_usb && !none && v->machine == VM_MACHINE_MICRO)
		return err_set(e, -EINVAL, "--usb needs PCI, which --machine micro has not; use --machine pc");
	if (v->vnc.on && !pointer && v->machine == VM_MACHINE_PC && v->n_usb < VM_MAX_USB)
		v->usb[v->n_usb++] = VM_USB_TABLET;
	return 0;
}

int config_check_parts(struct vm_config *v, struct err *e)
{
	if (v->clipboard && !v->vnc.on && !v->from_snapshot)
		return err_set(e, -EINVAL, "--clipboard is shared with those who look at the guest: it needs --display vnc");
	if (v->machine == VM_MACHINE_MICRO && v->watchdog)
		return err_set(e, -EINVAL, "--watchdog needs PCI, which --machine micro has not; use --machine pc");
	if (v->vsock_cid && !v->vsock_path)
		return err_set(e, -EINVAL, "--vsock: vsock.path is missing");
	if (v->machine == VM_MACHINE_MICRO && v->tpm)
		return err_set(e, -EINVAL, "--tpm: --machine micro has no TPM; use --machine pc");
	for (unsigned i = 0; i < VM_MAX_INPUTS; i++)
		if (v->input[i] && v->machine == VM_MACHINE_MICRO && !v->vga)
			return err_set(e, -EINVAL, "--input: nothing can be typed or pointed at on --machine micro without a screen");
	if (v->tpm_socket && v->tpm_state)
		return err_set(e, -EINVAL, "--tpm: state= is for a TPM that is started here, so it does not go with socket=");
	if (v->tpm_end && !v->tpm_socket)
		return err_set(e, -EINVAL, "--tpm: end= is for a TPM that runs already (socket=); one that is started here always ends with its guest");
	if (!v->tpm && (v->tpm_socket || v->tpm_state))
		return err_set(e, -EINVAL, "--tpm: say tis or crb first");
	return check_usb(v, e) ? -EINVAL : config_check_host(v, e);
}
