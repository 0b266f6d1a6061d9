// SPDX-License-Identifier: GPL-2.0-or-later
/* Configuration of how a guest is started, what it is told of itself, and its clock. */
#include "vm/config_int.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* What QEMU does not do unless it is asked to.  Options that follow may ask. */
void config_defaults(const struct conf *c, struct vm_config *v)
{
	const char *like = conf_get(c, "defaults");

	if (!like || strcmp(like, "qemu"))
		return;
	v->balloon = v->rng = v->control = false;
	v->console = VM_CONSOLE_NONE;
	v->shutdown_timeout = 0;
}

/* utc, localtime, or the date and time that it is for the guest when it starts. */
static int set_rtc(const char *val, int64_t *offset, struct err *e)
{
	time_t now = time(NULL);
	struct tm tm = { 0 };
	const char *end;

	*offset = 0;
	if (!strcmp(val, "utc"))
		return 0;
	if (!strcmp(val, "localtime")) {
		localtime_r(&now, &tm);
		*offset = tm.tm_gmtoff;
		return 0;
	}
	end = strptime(val, "%Y-%m-%d", &tm);
	if (end && *end == 'T')
		end = strptime(end + 1, "%H:%M:%S", &tm);
	if (!end || *end || tm.tm_year < 70 || tm.tm_year > 8000)
		return err_set(e, -EINVAL, "'%.40s' is not utc, localtime or a date such as 2006-06-17T16:01:21", val);
	*offset = timegm(&tm) - now;
	return 0;
}

static int set_escape(const char *val, struct vm_config *v, struct err *e)
{
	const char *comma = strchr(val, ',');
	char number[8];

	v->escape_x = comma && !strcmp(comma, ",x");
	snprintf(number, sizeof(number), "%.*s", comma ? (int)(comma - val) : (int)strlen(val), val);
	if ((comma && !v->escape_x) || config_uint(number, 1, 31, &v->escape, NULL))
		return err_set(e, -EINVAL, "'%.20s' is not the number of a control character, 1 to 31, with ',x' or without", val);
	return 0;
}

static int set_ready_fd(const char *val, int *out, struct err *e)
{
	unsigned fd;
	int ret = config_uint(val, 3, 65535, &fd, e);

	if (!ret && fcntl((int)fd, F_GETFD) < 0)
		ret = err_set(e, -EBADF, "no descriptor %u is open", fd);
	*out = ret ? -1 : (int)fd;
	return ret;
}

int config_host(const char *key, const char *val, struct vm_config *v, struct err *e)
{
	static const char *const defaults[] = { "lodge", "qemu", NULL };
	int w = 0, ret;

	if (!strcmp(key, "defaults")) {
		ret = config_word(val, defaults, &w, e);
		v->like_qemu = w;
		return ret;
	}
	if (!strcmp(key, "escape"))
		return set_escape(val, v, e);
	if (!strcmp(key, "uuid"))
		return vm_parse_uuid(val, v->uuid, e);
	if (!strcmp(key, "rtc"))
		return set_rtc(val, &v->rtc_offset, e);
	if (!strcmp(key, "pidfile"))
		return config_text(val, &v->pidfile, e);
	if (!strcmp(key, "daemonize"))
		return config_bool(val, &v->daemonize, e);
	if (!strcmp(key, "ready-fd"))
		return set_ready_fd(val, &v->ready_fd, e);
	return -ENOENT;
}

int config_serial(struct vm_config *v, unsigned n, const char *val, struct err *e)
{
	if (n >= PLATFORM_MAX_SERIAL)
		return err_set(e, -E2BIG, "a PC has at most %d serial ports", PLATFORM_MAX_SERIAL);
	v->serial[n] = strcmp(val, "none") ? val : NULL;
	return *val ? 0 : err_set(e, -EINVAL, "it is the id of a chardev, or none");
}

/* ---- SMBIOS: "type=1,manufacturer=ACME,..." ---- */

/* The next part of *at into part, cut off at its end, ",," being a comma.  False: there is none. */
static bool next_part(const char **at, char *part, size_t len)
{
	size_t n = 0;

	if (!**at)
		return false;
	for (; **at && (**at != ',' || (*at)[1] == ','); ++*at) {
		if (**at == ',')
			++*at;
		if (n + 1 < len)
			part[n++] = **at;
	}
	if (**at)
		++*at;
	part[n] = '\0';
	return true;
}

static int set_field(struct vm_config *v, unsigned type, const char *name, const char *val, struct err *e)
{
	int ret;

	if (type == 1 && !strcmp(name, "uuid"))
		return vm_parse_uuid(val, v->uuid, e);
	ret = smbios_user_set(&v->smbios, type, name, val);
	if (ret == -E2BIG)
		return err_set(e, ret, "type %u: there is no room for so much text", type);
	return ret ? err_set(e, -EINVAL, "type %u has no field '%.40s' that can be set", type, name) : 0;
}

int config_smbios(struct vm_config *v, const char *val, struct err *e)
{
	unsigned type = 0;
	char part[SMBIOS_TEXT + 64];	/* what is cut off is too much for the table as well */
	int ret;

	if (strncmp(val, "type=", 5) || !isdigit((unsigned char)val[5]))
		return err_set(e, -EINVAL, "'%.40s' does not begin with type=NUMBER", val);
	next_part(&val, part, sizeof(part));
	ret = config_uint(part + 5, 0, 127, &type, e);
	while (!ret && next_part(&val, part, sizeof(part))) {
		char *eq = strchr(part, '=');

		if (!eq)
			return err_set(e, -EINVAL, "'%.40s' is not FIELD=TEXT", part);
		*eq = '\0';
		ret = set_field(v, type, part, eq + 1, e);
	}
	return ret;
}

int config_check_host(const struct vm_config *v, struct err *e)
{
	if (v->daemonize && (v->console == VM_CONSOLE_STDIO || v->debugcon == VM_CONSOLE_STDIO))
		return err_set(e, -EINVAL, "--daemonize: standard input and output are closed; use --console none, pty or a file");
	for (unsigned i = 0; i < v->n_chardevs; i++)
		if (v->daemonize && v->chardev[i].kind == VM_CHARDEV_STDIO)
			return err_set(e, -EINVAL, "--daemonize: standard input and output are closed; --chardev %.60s needs another kind", v->chardev[i].id);
	if (v->daemonize && v->exec)
		return err_set(e, -EINVAL, "--daemonize and --exec exclude each other");
	if (v->serial[0] && v->console == VM_CONSOLE_STDIO)
		return err_set(e, -EINVAL, "--serial: the first serial port is the console; use --console none");
	for (unsigned i = 0; i < v->n_disks; i++)
		if (v->disk[i].snapshot && !v->disk[i].path)
			return err_set(e, -EINVAL, "--disk: snapshot=on needs an image");
	return 0;
}
