/*
 * owner.h
 *	  Acting as amzmp_owner around our own SQL.
 */
#ifndef AMZMP_OWNER_H
#define AMZMP_OWNER_H

typedef struct OwnerScope
{
	Oid user;
	int context;
} OwnerScope;

/* Become amzmp_owner until owner_leave; an error restores the user by itself at (sub)transaction abort. */
extern void owner_enter(OwnerScope *scope);
extern void owner_leave(const OwnerScope *scope);

#endif
