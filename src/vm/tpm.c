// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The TPM of a guest: a swtpm somebody serves, or one of its own.
 *
 * The state of its own lies where --tpm state= says, or beside the first disk as
 * DISK.tpm.  Without such a disk it lives as long as the guest does.
 */
#include "tpm/tpm.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "vm/internal.h"

/* Beside the first disk, if that is a file the guest writes to. */
static int default_folder(struct vm *vm, char **out, struct err *e)
{
	const struct vm_disk *d = vm_config_first_disk(vm->cfg);
	const char *tmp = getenv("TMPDIR");
	struct stat st;

	*out = NULL;
	if (d && d->path && !d->open.file.read_only && !stat(d->path, &st) && S_ISREG(st.st_mode))
		return asprintf(out, "%s.tpm", d->path) < 0 ? err_set(e, -ENOMEM, "out of memory") : 0;
	if (asprintf(out, "%s/lodge-tpm-XXXXXX", tmp && *tmp == '/' ? tmp : "/tmp") < 0)
		return err_set(e, -ENOMEM, "out of memory");
	if (!mkdtemp(*out)) {
		int ret = err_set(e, -errno, "%s: %s", *out, strerror(errno));

		free(*out);
		*out = NULL;
		return ret;
	}
	log_info("the TPM's state is lost when the guest ends, for there is no disk to put it beside");
	vm->tpm_folder = *out;
	return 0;
}

static int start(struct vm *vm, struct err *e)
{
	char *folder;
	int ret;

	if (vm->cfg->tpm_state)
		return tpm_start(vm->m->loop, vm->cfg->tpm_state, &vm->tpm, e);
	ret = default_folder(vm, &folder, e);
	if (!ret)
		ret = tpm_start(vm->m->loop, folder, &vm->tpm, e);
	if (folder != vm->tpm_folder)
		free(folder);
	return ret;
}

int vm_tpm_new(struct vm *vm, struct err *e)
{
	int ret = 0;

	if (!vm->cfg->tpm)
		return 0;
	if (vm->cfg->tpm_socket)
		ret = tpm_connect(vm->m->loop, vm->cfg->tpm_socket, &vm->tpm, e);
	else
		ret = start(vm, e);
	if (!ret && vm->cfg->tpm_end)
		tpm_ends_with_us(vm->tpm);
	return ret ? err_prefix(e, ret, "--tpm") : 0;
}

/* A folder of our own making, with files alone. */
static void remove_folder(const char *path)
{
	DIR *d = opendir(path);

	for (struct dirent *x; d && (x = readdir(d));)
		if (strcmp(x->d_name, ".") && strcmp(x->d_name, ".."))
			unlinkat(dirfd(d), x->d_name, 0);
	if (d)
		closedir(d);
	if (rmdir(path))
		log_warn("%s cannot be removed: %s", path, strerror(errno));
}

void vm_tpm_free(struct vm *vm)
{
	tpm_free(vm->tpm);
	vm->tpm = NULL;
	if (vm->tpm_folder)
		remove_folder(vm->tpm_folder);
	free(vm->tpm_folder);
	vm->tpm_folder = NULL;
}
