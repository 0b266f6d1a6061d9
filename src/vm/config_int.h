/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files that read the configuration share.  All: 0, or -EINVAL with a message without the option's name. */
#ifndef LODGE_VM_CONFIG_INT_H
#define LODGE_VM_CONFIG_INT_H

#include "vm/config.h"

int config_uint(const char *text, unsigned min, unsigned max, unsigned *out, struct err *e);
int config_bool(const char *text, bool *out, struct err *e);
/* One of the words, which end with NULL; *out is its place. */
int config_word(const char *text, const char *const *words, int *out, struct err *e);
/* Any text but none. */
int config_text(const char *text, const char **out, struct err *e);

/* config_host.c: how the guest is started and told of itself. */
void config_defaults(const struct conf *c, struct vm_config *v);
/* -ENOENT: not one of its keys. */
int config_host(const char *key, const char *val, struct vm_config *v, struct err *e);
int config_serial(struct vm_config *v, unsigned n, const char *val, struct err *e);
int config_smbios(struct vm_config *v, const char *val, struct err *e);
int config_check_host(const struct vm_config *v, struct err *e);

/* config_parts.c: keys of the small devices.  -ENOENT: not one of them. */
int config_part(const char *key, const char *val, struct vm_config *v, struct err *e);
/* A place in the boot order. */
int config_bootindex(const char *val, int *out, struct err *e);
/* config_disk.c: a field of a disk, -ENOENT: there is none of that name; what only shows when all are known, with the option's name. */
int config_disk(struct vm_disk *d, const char *field, const char *val, struct err *e);
int config_check_disk(const struct vm_config *v, unsigned i, struct err *e);
/* config_chardev.c: fields of the N-th.  -ENOENT: no such field. */
int config_chardev(struct vm_config *v, unsigned n, const char *field, const char *val, struct err *e);
int config_port(struct vm_config *v, unsigned n, const char *field, const char *val, struct err *e);
int config_check_chardevs(struct vm_config *v, struct err *e);
int config_check_ports(const struct vm_config *v, struct err *e);

/* config.c, for config_more.c.  Splits "disk.3.file" for list "disk" into 3 and "file" ("" if nothing follows). */
bool config_indexed(const char *key, const char *list, unsigned *n, const char **field);
/* Any key, and a field of a card.  -ENOENT: there is no such one. */
int config_set(const char *key, const char *val, struct vm_config *v, struct err *e);
int config_net(struct vm_net *n, const char *field, const char *val, struct err *e);
int config_check_net(struct vm_net *n, unsigned i, const struct vm_config *v, struct err *e);
/* config_more.c: what they are before there is a key for them. */
void config_clear_disk(struct vm_disk *d);
void config_clear_net(struct vm_net *n);

/* config_hotplug.c */
/* What QEMU takes for an id. */
int config_id(const char *val, const char **out, struct err *e);
/* CPUs that come and go: a field of the N-th; max_cpus is set. */
int config_vcpu(struct vm_config *v, unsigned n, const char *field, const char *val, struct err *e);
int config_check_cpus(struct vm_config *v, struct err *e);

/* config_numa.c: fields of the topology and of the N-th node; what only shows when all is known, the CPUs and the memory in all. */
int config_topology(struct vm_config *v, const char *field, const char *val, struct err *e);
int config_numa(struct vm_config *v, unsigned n, const char *field, const char *val, struct err *e);
int config_check_numa(struct vm_config *v, struct err *e);
/* config_backing.c: where memory is (-ENOENT: no such field), fields of backing, keys of limits; what only shows when all is known. */
int config_placement(struct vm_placement *p, const char *field, const char *val, struct err *e);
int config_backing(struct vm_config *v, const char *field, const char *val, struct err *e);
int config_limit(struct vm_config *v, const char *key, const char *val, struct err *e);
int config_check_backing(struct vm_config *v, struct err *e);
/* "0,2-3": a bit for each number, at most max, which is below 64; there is one at least. */
int config_set_of(const char *text, unsigned max, uint64_t *set, struct err *e);
/* A slot of the root bus, and a list of such. */
int config_slot(const char *val, unsigned *slot, struct err *e);
int config_kept_slots(struct vm_config *v, const char *val, struct err *e);
int config_root_port(struct vm_config *v, unsigned n, const char *field, const char *val, struct err *e);
/* The free ports are put behind those that have names. */
int config_check_root_ports(struct vm_config *v, struct err *e);
/* Of a configuration as a whole: an id is one device's, and the root ports that bus= names are there. */
int config_check_places(const struct vm_config *v, struct err *e);

/* config_vhost.c: a field of a vhost-user peer, -ENOENT: no such one; of the N-th disk of such; what only shows in the end. */
int config_peer(struct vm_peer *p, const char *field, const char *val, struct err *e);
int config_vhost_disk(struct vm_config *v, unsigned n, const char *field, const char *val, struct err *e);
int config_check_vhost_disks(struct vm_config *v, struct err *e);

/* config_share.c: the same, of shared folders. */
int config_share(struct vm_config *v, unsigned n, const char *field, const char *val, struct err *e);
int config_check_shares(struct vm_config *v, struct err *e);

/* config_memory.c: memory devices; the one that memory-max makes, if there is none. */
int config_memory_device(struct vm_config *v, unsigned n, const char *field, const char *val, struct err *e);
int config_check_memory(struct vm_config *v, struct err *e);

int config_input(struct vm_config *v, unsigned n, const char *val, struct err *e);
int config_usb(struct vm_config *v, unsigned n, const char *field, const char *val, struct err *e);
int config_check_parts(struct vm_config *v, struct err *e);

#endif
