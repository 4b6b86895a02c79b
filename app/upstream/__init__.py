"""Where bytes come from when no member has them: OCI registries and ranged URLs. The only room that speaks to the outside."""
