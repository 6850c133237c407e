"""
The contracts are put together from several classes each.
"""

from __future__ import annotations

from collections import Counter

from twisted.trial.unittest import SynchronousTestCase

from tests.stores import allowances, books, suite


class ContractTests(SynchronousTestCase):
    def test_no_test_hides_another(self) -> None:
        """
        No two of the classes have a test of the same name: only one of them would be run.
        """
        for contract in allowances.AllowancesContract, books.BooksContract, suite.StoreContract:
            names = Counter(name for each in contract.__mro__ for name in vars(each) if name.startswith("test_"))
            self.assertEqual([], [name for name, times in names.items() if times > 1], contract)
            self.assertGreater(len(names), 10)
