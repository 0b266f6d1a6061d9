// SPDX-License-Identifier: GPL-2.0-or-later
/* The monitor for people: devices that come and go. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/device.h"
#include "control/hmp.h"
#include "vm/hotplug.h"

/* Cuts one part off at *text, with ",," made a comma; NULL: there are no more. */
static char *take_part(char **text)
{
	char *from = *text, *to, *part = from;

	if (!from)
		return NULL;
	for (to = from; *from; from++) {
		if (*from == ',' && from[1] != ',')
			break;
		if (*from == ',')
			from++;
		*to++ = *from;
	}
	*text = *from ? from + 1 : NULL;
	*to = '\0';
	return part;
}

static void set_part(json_t *args, char *part, const char *implied)
{
	char *eq = strchr(part, '=');

	if (eq)
		*eq = '\0';
	/* A word alone is the first one's value, and of others that they are on. */
	if (!eq && implied)
		json_object_set_new(args, implied, json_string(part));
	else
		json_object_set_new(args, part, json_string(eq ? eq + 1 : "on"));
}

json_t *hmp_options(const char *text, const char *first)
{
	char *copy = strdup(text), *rest = copy, *part;
	json_t *args = copy ? json_object() : NULL;

	for (bool begin = true; args && (part = take_part(&rest)); begin = false)
		if (*part)
			set_part(args, part, begin ? first : NULL);
	free(copy);
	return args;
}

/* ---- drives, of which QMP has none: images for disks that come later ---- */

#define MAX_DRIVES 32

struct ctl_drive {
	struct list node;
	char id[VM_ID_MAX];
	struct conf *fields;
};

static struct ctl_drive *find_drive(struct control *ctl, const char *id)
{
	list_for_each(n, &ctl->drives) {
		struct ctl_drive *d = list_entry(n, struct ctl_drive, node);

		if (!strcmp(d->id, id))
			return d;
	}
	return NULL;
}

static void free_drive(struct ctl_drive *d)
{
	list_del(&d->node);
	conf_free(d->fields);
	free(d);
}

void ctl_drives_free(struct control *ctl)
{
	list_for_each_safe(n, &ctl->drives)
		free_drive(list_entry(n, struct ctl_drive, node));
}

/* The disk made of it; -1: none. */
static int user_of(struct control *ctl, const char *id)
{
	const struct vm_config *cfg = vm_config_of(ctl->vm);

	for (unsigned i = 0; i < cfg->n_disks; i++)
		if (cfg->disk[i].there && cfg->disk[i].drive && !strcmp(cfg->disk[i].drive, id))
			return (int)i;
	return -1;
}

int ctl_drive_fields(struct control *ctl, const char *id, struct conf *to, struct err *e)
{
	const struct ctl_drive *d = find_drive(ctl, id);
	const char *key, *val;
	int ret = 0;

	if (!d)
		return -ENOENT;
	if (user_of(ctl, id) >= 0)
		return err_set(e, -EBUSY, "Property 'drive' can't take value '%.60s', it's in use", id);
	for (size_t i = 0; !ret && conf_nth(d->fields, i, &key, &val); i++)
		ret = conf_set(to, key, val, e);
	return ret ? ret : conf_set(to, "drive", id, e);
}

static int put_drive_field(struct conf *f, const char *name, const char *val, struct err *e)
{
	static const struct { const char *theirs, *ours; } words[] = {
		{ "file", "file" }, { "format", "format" }, { "readonly", "ro" }, { "read-only", "ro" }, { "cache", "cache" }, { "snapshot", "snapshot" },
		{ "discard", "discard" }, { "werror", "werror" }, { "rerror", "rerror" }, { "serial", "serial" }, { "bps", "bps" }, { "iops", "iops" },
	};

	if (!strcmp(name, "id") || !strcmp(name, "index") || !strcmp(name, "media") || !strcmp(name, "aio"))
		return 0;
	if (!strcmp(name, "if"))
		return strcmp(val, "none") ? err_set(e, -EINVAL, "if=%.20s: a disk comes by device_add, of a drive with if=none", val) : 0;
	for (unsigned i = 0; i < ARRAY_LEN(words); i++)
		if (!strcmp(words[i].theirs, name))
			return conf_set(f, words[i].ours, val, e);
	return err_set(e, -EINVAL, "Invalid parameter '%.60s'", name);
}

static int new_drive(struct control *ctl, json_t *args, struct err *e)
{
	const char *id = json_string_value(json_object_get(args, "id")), *name;
	struct ctl_drive *d;
	unsigned n = 0;
	int ret = 0;
	json_t *v;

	list_for_each(p, &ctl->drives)
		n++;
	if (!id)
		return err_set(e, -EINVAL, "id is missing");
	if (vm_config_id(id, e))
		return -EINVAL;
	if (find_drive(ctl, id))
		return err_set(e, -EEXIST, "Duplicate ID '%.60s' for drive", id);
	d = n < MAX_DRIVES ? calloc(1, sizeof(*d)) : NULL;
	if (!d || conf_new(&d->fields)) {
		free(d);
		return err_set(e, -ENOMEM, "there is no room for another drive");
	}
	snprintf(d->id, sizeof(d->id), "%s", id);
	list_add_tail(&ctl->drives, &d->node);
	/* The user names the image, and may use any file as its backing file, as in QEMU. */
	if (vm_config_of(ctl->vm)->like_qemu)
		ret = conf_set(d->fields, "backing", "on", e);
	json_object_foreach(args, name, v)
		ret = ret ? ret : put_drive_field(d->fields, name, json_string_value(v) ? json_string_value(v) : "", e);
	if (ret)
		free_drive(d);
	return ret;
}

/* drive_add [-n] [PCI address] OPTIONS */
void hmp_drive_add(struct hmp *h)
{
	json_t *args = hmp_options(h->word[h->n - 1], NULL);
	struct err e = { "" };

	if (!args || new_drive(h->ctl, args, &e))
		fprintf(h->out, "Error: %s\r\n", e.msg[0] ? e.msg : "out of memory");
	else
		fputs("OK\r\n", h->out);
	json_decref(args);
}

void hmp_drive_del(struct hmp *h)
{
	struct ctl_drive *d = find_drive(h->ctl, h->word[1]);

	if (!d)
		fprintf(h->out, "Error: Device '%s' not found\r\n", h->word[1]);
	else if (user_of(h->ctl, d->id) >= 0)
		fprintf(h->out, "Error: a disk has the drive '%s': device_del it first\r\n", d->id);
	else
		free_drive(d);
}

void hmp_device_add(struct hmp *h) { hmp_just(h, "device_add", hmp_options(h->word[1], "driver")); }
void hmp_device_del(struct hmp *h) { hmp_just(h, "device_del", json_pack("{s:s+}", "id", h->word[1], "")); }
void hmp_netdev_add(struct hmp *h) { hmp_just(h, "netdev_add", hmp_options(h->word[1], "type")); }
void hmp_netdev_del(struct hmp *h) { hmp_just(h, "netdev_del", json_pack("{s:s+}", "id", h->word[1], "")); }
