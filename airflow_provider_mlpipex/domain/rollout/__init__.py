"""One endpoint's life: events, the state they fold into, what may be decided next, the traffic it gets."""
