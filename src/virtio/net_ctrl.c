/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The receive filter of a network card.
 *
 * The driver lists addresses and VLANs; a frame passes if its destination is
 * one of them or a mode lets in all of its kind.  The filter saves the guest
 * work; what is behind it may still see more than it asked for when a list is
 * longer than our table (5.1.6.5.1 allows it).
 */
#include "virtio/net_ctrl.h"

#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "base/iov.h"

#define TAG_PROTO 0x8100

void net_filter_init(struct net_filter *f, const uint8_t mac[6])
{
	memset(f, 0, sizeof(*f));
	memcpy(f->first_mac, mac, 6);
	net_filter_reset(f);
}

void net_filter_reset(struct net_filter *f)
{
	uint8_t mac[6];

	memcpy(mac, f->first_mac, 6);
	memset(f, 0, sizeof(*f));
	memcpy(f->first_mac, mac, 6);
	memcpy(f->mac, mac, 6);
	f->promisc = 1;
}

static bool listed(const uint8_t *table, unsigned n, const uint8_t *mac)
{
	for (unsigned i = 0; i < n; i++)
		if (!memcmp(table + 6 * i, mac, 6))
			return true;
	return false;
}

bool net_filter_passes(const struct net_filter *f, const struct iovec *iov, unsigned n)
{
	static const uint8_t broadcast[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
	uint8_t h[16] = { 0 };
	size_t len = iov_to_buf(iov, n, 0, h, sizeof(h));

	if (f->promisc)
		return true;
	if (f->vlan_filter && len == sizeof(h) && (h[12] << 8 | h[13]) == TAG_PROTO) {
		unsigned vid = (unsigned)(h[14] << 8 | h[15]) & 0xfff;

		if (!(f->vlans[vid / 8] & BIT(vid % 8)))
			return false;
	}
	if (!memcmp(h, broadcast, 6))
		return !f->nobcast;
	if (h[0] & 1)
		return !f->nomulti && (f->allmulti || f->multi_overflow || listed(f->multi, f->n_multi, h));
	return !f->nouni && (f->alluni || f->uni_overflow || !memcmp(h, f->mac, 6) || listed(f->uni, f->n_uni, h));
}

int net_filter_rx(struct net_filter *f, uint8_t cmd, const uint8_t *p, size_t len)
{
	uint8_t *const modes[] = {
		[NET_CTRL_RX_PROMISC] = &f->promisc, [NET_CTRL_RX_ALLMULTI] = &f->allmulti,
		[NET_CTRL_RX_ALLUNI] = &f->alluni,   [NET_CTRL_RX_NOMULTI] = &f->nomulti,
		[NET_CTRL_RX_NOUNI] = &f->nouni,     [NET_CTRL_RX_NOBCAST] = &f->nobcast,
	};

	if (cmd >= ARRAY_LEN(modes) || len < 1)
		return -EINVAL;
	*modes[cmd] = p[0] != 0;
	return 0;
}

/* One list: le32 count, then addresses. Advances *p; -EINVAL if it is longer than the command. */
static int take_list(const uint8_t **p, size_t *len, const uint8_t **addrs, uint32_t *n)
{
	if (*len < 4)
		return -EINVAL;
	*n = ld_le32(*p);
	*p += 4;
	*len -= 4;
	if (*n > *len / 6)
		return -EINVAL;
	*addrs = *p;
	*p += (size_t)*n * 6;
	*len -= (size_t)*n * 6;
	return 0;
}

static void keep_list(uint8_t *table, uint16_t *count, uint8_t *overflow, const uint8_t *addrs, uint32_t n)
{
	*overflow = n > NET_FILTER_ADDRS;
	*count = (uint16_t)(*overflow ? 0 : n);
	memcpy(table, addrs, *count * 6u);
}

int net_filter_mac(struct net_filter *f, uint8_t cmd, const uint8_t *p, size_t len)
{
	const uint8_t *uni, *multi;
	uint32_t n_uni, n_multi;

	if (cmd == NET_CTRL_MAC_ADDR_SET && len >= 6 && !(p[0] & 1)) {
		memcpy(f->mac, p, 6);
		return 0;
	}
	if (cmd != NET_CTRL_MAC_TABLE_SET || take_list(&p, &len, &uni, &n_uni) || take_list(&p, &len, &multi, &n_multi))
		return -EINVAL;
	keep_list(f->uni, &f->n_uni, &f->uni_overflow, uni, n_uni);
	keep_list(f->multi, &f->n_multi, &f->multi_overflow, multi, n_multi);
	return 0;
}

int net_filter_vlan(struct net_filter *f, uint8_t cmd, const uint8_t *p, size_t len)
{
	uint16_t vid;

	if (len < 2 || cmd > NET_CTRL_VLAN_DEL)
		return -EINVAL;
	vid = ld_le16(p);
	if (vid > 4095)
		return -EINVAL;
	if (cmd == NET_CTRL_VLAN_ADD)
		f->vlans[vid / 8] |= (uint8_t)BIT(vid % 8);
	else
		f->vlans[vid / 8] &= (uint8_t)~BIT(vid % 8);
	return 0;
}

static const struct snap_field fields[] = {
	SNAP_ARRAY(struct net_filter, mac),
	SNAP_FIELD(struct net_filter, promisc),
	SNAP_FIELD(struct net_filter, allmulti),
	SNAP_FIELD(struct net_filter, alluni),
	SNAP_FIELD(struct net_filter, nomulti),
	SNAP_FIELD(struct net_filter, nouni),
	SNAP_FIELD(struct net_filter, nobcast),
	SNAP_FIELD(struct net_filter, vlan_filter),
	SNAP_FIELD(struct net_filter, uni_overflow),
	SNAP_FIELD(struct net_filter, multi_overflow),
	SNAP_FIELD(struct net_filter, n_uni),
	SNAP_FIELD(struct net_filter, n_multi),
	SNAP_ARRAY(struct net_filter, uni),
	SNAP_ARRAY(struct net_filter, multi),
	SNAP_ARRAY(struct net_filter, vlans),
	SNAP_END,
};
static const struct snap_table table = { "virtio-net-filter", 1, fields };

int net_filter_save(const struct net_filter *f, const char *id, struct snap_out *o)
{
	return snap_put(o, id, &table, f);
}

int net_filter_load(struct net_filter *f, const char *id, struct snap_in *in, struct err *e)
{
	int ret = snap_get(in, id, &table, f, e);

	/* Counts from a file bound loops here. */
	if (ret || f->n_uni > NET_FILTER_ADDRS || f->n_multi > NET_FILTER_ADDRS) {
		net_filter_reset(f);
		return ret ? ret : err_set(e, -EINVAL, "saved state of network card %s: its address lists are damaged", id);
	}
	return 0;
}
