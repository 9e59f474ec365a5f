"""What is told about alerts, by tools, resources and prompts alike: one module a question, all asked at one ``Desk``.

Every answer carries coverage, because an empty list from a source that was never read means something else than an empty
list; and ``seq``, the newest change that it may know, from which ``alert_changes`` goes on.
"""
