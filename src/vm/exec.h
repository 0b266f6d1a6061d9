/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The host's side of --exec: ports for the virtio console, see exec.c. */
#ifndef LODGE_VM_EXEC_H
#define LODGE_VM_EXEC_H

struct chardev;
struct vm_exec;

enum { EXEC_CTL, EXEC_STDIN, EXEC_STDOUT, EXEC_STDERR, EXEC_PORTS };
extern const char *const vm_exec_port_name[EXEC_PORTS];

struct chardev *vm_exec_port(struct vm_exec *x, unsigned port);

#endif
