/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What all net back ends share: being tied to a card, and being closed. */
#include "net/port.h"

void net_attach(struct net_backend *b, const struct net_card *card)
{
	b->card = *card;
}

void net_close(struct net_backend *b)
{
	if (b)
		b->ops->close(b);
}
