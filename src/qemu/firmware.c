// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Firmware's file: where a name without a folder is looked for, and what is taken in
 * the place of a build that needs system management mode, which there is not.
 *
 * Distributions install OVMF's builds side by side: OVMF_CODE_4M.secboot.fd beside
 * OVMF_CODE_4M.fd, and names that are links to the former (OVMF_CODE_4M.ms.fd).
 * Builds of one size share the layout of their variables, so the file of variables
 * fits both.  What is lost is what that mode is for there: it keeps a guest's kernel
 * from changing them behind the firmware's back.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "qemu/qemu.h"
#include "vm/firmware.h"

/* As it is, in -L's folder, or where distributions put firmware. */
const char *firmware_find(struct qemu *q, const char *name)
{
	const char *const dirs[] = { q->data_dir, "/usr/share/seabios", "/usr/share/qemu", "/usr/share/ovmf", "/usr/share/OVMF" };

	if (!strcmp(name, "bios.bin") || !strcmp(name, "bios-256k.bin"))
		return "bios";
	for (unsigned i = 0; i < ARRAY_LEN(dirs) && !strchr(name, '/') && access(name, R_OK); i++) {
		const char *path = dirs[i] ? keepf(q, "%s/%s", dirs[i], name) : "";

		if (*path && !access(path, R_OK))
			return path;
	}
	return name;
}

/* The name without the word in its last part; NULL: it is not there. */
static const char *without(struct qemu *q, const char *path, const char *word)
{
	const char *base = strrchr(path, '/'), *at = strstr(base ? base : path, word);

	return at ? keepf(q, "%.*s%s", (int)(at - path), path, at + strlen(word)) : NULL;
}

static bool same_size(const char *a, const char *b)
{
	struct stat s, t;

	return !stat(a, &s) && !stat(b, &t) && s.st_size == t.st_size;
}

/* The build beside it that does without; NULL: there is none. */
static const char *sibling(struct qemu *q, const char *file)
{
	static const char *const words[] = { ".secboot", ".ms", ".snakeoil" };
	char *real = realpath(file, NULL);
	const char *const names[] = { file, real ? keep(q, real) : "" };
	const char *found = NULL;

	free(real);
	for (unsigned n = 0; n < ARRAY_LEN(names) && !found; n++)
		for (unsigned i = 0; i < ARRAY_LEN(words) && !found; i++) {
			found = without(q, names[n], words[i]);
			if (found && (!same_size(found, file) || access(found, R_OK) || vm_firmware_needs_smm(found)))
				found = NULL;
		}
	return found;
}

const char *firmware_without_smm(struct qemu *q, const char *file)
{
	const char *other = vm_firmware_needs_smm(file) ? sibling(q, file) : NULL;

	if (!other)
		return file;
	warn("%s needs system management mode, which this machine has not: %s is taken in its place, and the guest's kernel can change the "
	     "keys of Secure Boot", file, other);
	return other;
}
