/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where running guests are found: a folder for each, of its name, in the user's
 * runtime directory ($XDG_RUNTIME_DIR/lodge, else /run/user/UID/lodge, else
 * /tmp/lodge-UID), with a socket "qmp" in it.
 *
 * The folder is locked (flock) by the process that made it, for as long as it
 * lives: a lock that can be had means that the guest is gone.
 */
#ifndef LODGE_CONTROL_PLACE_H
#define LODGE_CONTROL_PLACE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"

#define CTL_SOCKET_NAME "qmp"

struct ctl_place;

/* The directory that the folders are in; made if `make`. A folder somebody else owns or may write is refused. */
int ctl_place_root(char *path, size_t len, bool make, struct err *e);
/* Takes the folder for the name. EEXIST: a guest of the name runs; others: there is no place for it. */
int ctl_place_new(const char *name, struct ctl_place **out, struct err *e);
/* The socket's path; lives as long as the place. */
const char *ctl_place_socket(const struct ctl_place *p);
/* Removes what is in the folder, and it. NULL is allowed. */
void ctl_place_free(struct ctl_place *p);

/* A guest that runs, found by its name: ENOENT. pid 0: unknown. */
int ctl_place_find(const char *name, char *socket_path, size_t len, pid_t *pid, struct err *e);

#endif
