"""One exchange: what each answer says, and whether the two agree."""
